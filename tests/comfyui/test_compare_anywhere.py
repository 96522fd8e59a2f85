"""An ordinary graph, without a node of Palate's: what its preview shows becomes a question in the sidebar."""

from __future__ import annotations

from typing import Any

import pytest
from comfy_host import Host
from palate.adapters.comparisons import PreferenceStore
from test_browser import WAIT, browser, open_graph  # noqa: F401 - the fixture

pytestmark = pytest.mark.browser
BUILD = """() => {
  const { graph } = window.app;
  graph.clear();
  const add = (kind, pos, values) => {
    const node = window.LiteGraph.createNode(kind);
    node.pos = pos;
    graph.add(node);
    for (const [name, value] of Object.entries(values)) node.widgets.find((one) => one.name === name).value = value;
    return node;
  };
  const empty = add("EmptyImage", [100, 400], { width: 64, height: 64, color: 0xff0000 });
  const preview = add("PreviewImage", [480, 400], {});
  empty.connect(0, preview, 0);
  const over = add("PalateProbeComparer", [480, 700], {});
  empty.connect(0, over, 0);
  window.made = { empty, preview, over };
}"""
RUN = """async (colour) => {
  const { empty, preview } = window.made;
  const shown = () => window.app.nodeOutputs[preview.id]?.images?.[0]?.filename;
  const before = shown();
  empty.widgets.find((one) => one.name === "color").value = colour;
  await window.app.queuePrompt(0);
  while (shown() === before) await new Promise((go) => setTimeout(go, 50));
}"""
# How many commands a group gets, and a node inside of a subgraph, where both have the id of the preview outside.
ELSEWHERE = """() => {
  const { id, comfyClass } = window.made.preview;
  const inner = { id, comfyClass, graph: { id: "another", isRootGraph: false } };
  const group = Object.assign(new window.LiteGraph.LGraphGroup("group"), { id });
  const commands = (item) => window.app.extensions.flatMap((one) => one.getSelectionToolboxCommands?.(item) ?? []);
  return [group, inner].map((item) => commands(item).filter((one) => one === "Palate.Compare").length);
}"""
ENTRY = "Compare with Palate"


@pytest.mark.parametrize("vue", [False, True])
def test_two_runs_of_any_preview_are_a_question(host: Host, browser: Any, vue: bool) -> None:  # noqa: F811
    person = f"any{vue}"
    host.request("/history", {"clear": True})
    page = open_graph(host, browser, vue=vue)
    page.evaluate("person => localStorage.setItem('Palate.Person', person)", person)
    page.reload(wait_until="domcontentloaded")
    page.wait_for_function("() => window.app?.extensionManager?.getSidebarTabs?.().some(({ id }) => id === 'palate')")
    page.evaluate(BUILD)
    page.evaluate(RUN, 0xFF0000)
    press(page)
    page.get_by_text("once more with another seed").first.wait_for(timeout=WAIT)
    page.evaluate(RUN, 0x0000FF)
    assert page.evaluate(ELSEWHERE) == [0, 0]
    press(page)
    page.wait_for_selector(".palate-tab .palate-pairs[data-offer]:not([data-offer=''])", timeout=WAIT)
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector('.palate-tab[data-answers="1"]', timeout=WAIT)
    press(page)
    page.get_by_text("You compared these before").first.wait_for(timeout=WAIT)
    with PreferenceStore(host.home / "store") as store:
        (answer,) = store.comparisons(person)
        colours = {store.image(image).getpixel((0, 0)) for image in (answer.left, answer.right)}
    assert answer.outcome == "left" and colours == {(255, 0, 0), (0, 0, 255)}
    before = page.locator(".palate-tab .palate-pairs").get_attribute("data-offer") or ""
    press(page, "over")  # a node that lays two pictures over each other shows them by other names
    page.wait_for_selector(f".palate-tab .palate-pairs[data-offer]:not([data-offer='']):not([data-offer='{before}'])")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector('.palate-tab[data-answers="2"]', timeout=WAIT)
    assert page.wrong == []
    page.close()


def press(page: Any, node: str = "preview") -> None:
    """Choose the entry as ComfyUI's own menu of the node does."""
    page.evaluate(
        """([entry, name]) => {
          const node = window.made[name];
          const items = window.app.collectNodeMenuItems?.(node)
            ?? window.app.extensions.flatMap((one) => one.getNodeMenuItems?.(node) ?? []);
          items.find((one) => one?.content === entry).callback();
        }""",
        [ENTRY, node],
    )


def test_only_what_comfyui_remembers_is_opened(host: Host) -> None:
    images = [{"filename": "../../etc/passwd", "subfolder": "", "type": "output"}]
    with pytest.raises(Exception, match="400"):
        host.request("/palate/compare", {"person": "x", "images": images})
    for wrong in ({}, {"images": "a"}, {"images": [1]}, {"images": [{"filename": 1, "type": "output"}]}):
        with pytest.raises(Exception, match="400"):
            host.request("/palate/compare", {"person": "x"} | wrong)
