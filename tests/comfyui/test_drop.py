"""A taste dropped onto ComfyUI's page: its picture becomes a file on the shelf and a node in the graph."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from typing import Any

import pytest
import torch
from comfy_host import Host
from palate.adapters.files import load_taste, taste_picture
from palate.adapters.taste import Taste
from test_browser import WAIT, browser, open_graph  # noqa: F401 - the fixture

pytestmark = pytest.mark.browser
DROP = """
async ([name, data]) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const carried = new DataTransfer();
  carried.items.add(new File([bytes], name, { type: "image/png" }));
  const canvas = document.querySelector("#graph-canvas") ?? document.querySelector("canvas");
  const event = (kind) => new DragEvent(kind, { dataTransfer: carried, bubbles: true, cancelable: true, clientX: 400, clientY: 300 });
  canvas.dispatchEvent(event("dragover"));
  canvas.dispatchEvent(event("drop"));
}
"""  # noqa: E501
NODES = "() => window.app.graph._nodes.filter((n) => n.type === 'PalateLoadTaste').map((n) => n.widgets[0].value)"


def taste(person: str) -> Taste:
    weights = torch.randn(16, generator=torch.Generator().manual_seed(len(person)))
    return Taste(weights, "e" * 64, "ViT-L-14", person, 40)


def drop(page: Any, name: str, data: bytes) -> None:
    page.evaluate(DROP, [name, base64.b64encode(data).decode()])


def test_a_dropped_picture_is_a_taste_on_the_shelf_and_a_node(host: Host, browser: Any) -> None:  # noqa: F811
    page = open_graph(host, browser, vue=False)
    page.wait_for_function("() => window.app?.handleFile?.toString().includes('isTaste')", timeout=WAIT)
    drop(page, "From Mara.png", taste_picture(taste("Mara")))
    page.wait_for_function(f"() => ({NODES})().length === 1", timeout=WAIT)
    (file,) = page.evaluate(NODES)
    assert load_taste(host.home / "tastes" / file).person == "Mara"
    page.get_by_text(f"Added the taste of Mara: {file}").first.wait_for(timeout=WAIT)
    page.close()


def test_while_the_server_is_away_a_drop_says_so(host: Host, browser: Any) -> None:  # noqa: F811
    page = open_graph(host, browser, vue=False)
    page.wait_for_function("() => window.app?.handleFile?.toString().includes('isTaste')", timeout=WAIT)
    page.route("**/palate/bring*", lambda route: route.abort())
    drop(page, "From Mara.png", taste_picture(taste("Mara")))
    page.get_by_text("The server doesn't answer. Try again when it is back.").first.wait_for(timeout=WAIT)
    page.close()


@pytest.mark.parametrize(
    ("data", "status"), [(b"\x89PNG\r\n\x1a\n" + bytes(40), 400), (b"", 400), (bytes((4 << 20) + 1), 413)]
)
def test_what_is_no_taste_is_one_sentence(host: Host, data: bytes, status: int) -> None:
    request = urllib.request.Request(
        f"{host.url}/palate/bring?name=..%2Fx.png", data, {"Content-Type": "application/octet-stream"}, method="POST"
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=30)
    assert refused.value.code == status
    assert b'"error"' in refused.value.read()


def test_what_is_brought_never_gets_a_name_that_saving_writes_to(host: Host) -> None:
    request = urllib.request.Request(
        f"{host.url}/palate/bring?name=me.png",
        taste_picture(taste("Ann")),
        {"Content-Type": "application/octet-stream"},
        method="POST",
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        assert json.load(response) == {"file": "me-2.safetensors", "person": "Ann"}
