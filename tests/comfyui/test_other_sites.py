"""A page of another site in the same browser: it can't add a click, and sees no picture."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from comfy_host import Host
from graphs import node
from test_browser import browser  # noqa: F401 - the fixture

pytestmark = pytest.mark.browser

ATTACK = """async ([host, offer, image]) => {
  const body = JSON.stringify({ offer, outcome: "left" });
  const json = { "Content-Type": "application/json" };
  const end = (promise) => promise.then((response) => response.status || response.type, () => "blocked");
  const post = (more) => end(fetch(`${host}/palate/answer`, { method: "POST", body, ...more }));
  const seen = new Promise((resolve) => {
    const picture = new Image();
    picture.onload = () => resolve("seen");
    picture.onerror = () => resolve("blocked");
    picture.src = `${host}/palate/image/${image}`;
  });
  return {
    json: await post({ headers: json }),
    plain: await post({ mode: "no-cors" }),
    dressed: await post({ mode: "no-cors", headers: { "Content-Type": "text/plain; application/json" } }),
    read: await end(fetch(`${host}/palate/image/${image}`)),
    shown: await seen,
  };
}"""


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[int]:
    """The port of another server on this machine, with an empty page."""
    (tmp_path / "index.html").write_text("<!doctype html><title>elsewhere</title>")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"], ids=["another port", "another site"])
def test_another_page_can_neither_click_nor_look(
    host: Host,
    browser: Any,  # noqa: F811
    elsewhere: int,
    name: str,
) -> None:
    graph = {
        "a": node("EmptyImage", width=64, height=64, batch_size=1, color=0x510000),
        "b": node("EmptyImage", width=64, height=64, batch_size=1, color=0x520000),
        "collect": node("PalateCollectPairs", images=["a", 0], images_b=["b", 0], person=f"at {name}", mode="record"),
    }
    (pair,) = host.run(graph)["collect"]["palate_pairs"]
    page = browser.new_page()
    page.goto(f"http://{name}:{elsewhere}/")
    done = page.evaluate(ATTACK, [host.url, pair["offer"], pair["left"]])
    page.close()
    assert done == {"json": "blocked", "plain": "opaque", "dressed": "opaque", "read": "blocked", "shown": "blocked"}
    told = host.request("/palate/pairs", {"person": f"at {name}"})
    assert (told["answers"], told["pairs"]) == (0, [pair])

    ours = browser.new_page()  # the same calls from ComfyUI's own address do all of it
    ours.goto(f"{host.url}/system_stats")
    done = ours.evaluate(ATTACK, [host.url, pair["offer"], pair["left"]])
    ours.close()
    assert (done["json"], done["read"], done["shown"]) == (200, 200, "seen")
