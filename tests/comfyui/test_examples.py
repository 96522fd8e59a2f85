"""Every shipped workflow in ComfyUI's own page: nothing is missing in it, and what needs no download runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from comfy_host import ROOT, Host
from test_browser import browser, open_graph  # noqa: F401 - `browser` is a fixture

pytestmark = pytest.mark.browser
FOLDER = ROOT / "example_workflows"
WORKFLOWS = sorted(FOLDER.glob("*.json"))
LOADED = """workflow => window.app.loadGraphData(workflow).then(() => window.app.graph.nodes.map(node => ({
  id: node.id, type: node.type, values: (node.widgets ?? []).map(widget => widget.value),
  wrong: Boolean(node.has_errors) || !(node.constructor.nodeData || node.type === "MarkdownNote"),
})))"""


@pytest.fixture(scope="module")
def page(host: Host, browser: Any) -> Any:  # noqa: F811
    opened = open_graph(host, browser, vue=False)
    yield opened
    opened.close()


def quick(prompt: dict[str, Any]) -> dict[str, Any]:
    """The same graph with few steps, answered by itself."""
    for node in prompt.values():
        if node["class_type"] == "KSampler":
            node["inputs"]["steps"] = 2
        if node["class_type"] == "PalateCollectPairs":
            node["inputs"]["person"] = "example"
            if node["inputs"].get("mode") == "wait":
                node["inputs"]["forced_choice"] = "left"
        if node["class_type"] in ("PalateFitTaste", "PalateEncodeUser") and isinstance(node["inputs"]["person"], str):
            node["inputs"]["person"] = "example"
    return prompt


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_a_workflow_loads_whole_with_its_own_settings(file: Path, page: Any) -> None:
    workflow = json.loads(file.read_text())
    nodes = page.evaluate(LOADED, workflow)
    assert [node["type"] for node in nodes if node["wrong"]] == []
    assert sorted(node["type"] for node in nodes) == sorted(node["type"] for node in workflow["nodes"])
    saved = {node["id"]: node.get("widgets_values") or [] for node in workflow["nodes"]}
    # A saved value without a place in the node's widgets would come up as another setting's.
    ours = [node for node in nodes if node["type"].startswith("Palate")]
    assert [node["values"][: len(saved[node["id"]])] for node in ours] == [saved[node["id"]] for node in ours]
    # ComfyUI draws no names on nodes below 0.57, which all of the graph on a laptop's screen would be.
    assert page.evaluate("() => window.app.canvas.ds.scale") > 0.6
    links = {link[0] for link in workflow["links"]}
    wired = {each["link"] for node in workflow["nodes"] for each in node.get("inputs", []) if each.get("link")}
    assert wired == links and file.with_suffix(".jpg").is_file()


@pytest.mark.parametrize("name", ["rank_a_batch", "teach_and_steer", "teach_while_you_work", "your_images"])
def test_a_workflow_of_the_playground_runs(name: str, host: Host, page: Any) -> None:
    page.evaluate(LOADED, json.loads((FOLDER / f"{name}.json").read_text()))
    prompt = page.evaluate("() => window.app.graphToPrompt().then(found => found.output)")
    outputs = host.run(quick(prompt))
    asked = [output["palate_pairs"] for output in outputs.values() if "palate_pairs" in output]
    pictures = [output["images"] for output in outputs.values() if "images" in output]
    assert asked and all(asked)
    assert pictures or name == "teach_and_steer"  # which shows nothing before the first answer


WIRE = """workflow => window.app.loadGraphData(workflow).then(() => {
  const graph = window.app.graph, block = graph.nodes[0];
  const add = type => { const node = LiteGraph.createNode(type); graph.add(node); return node; };
  const link = (from, out, input) => from.connect(
    from.outputs.findIndex(o => o.name === out), block, block.inputs.findIndex(i => i.name === input));
  const playground = add("PalateLoadPlayground");
  link(add("PalateProbeImages"), "IMAGE", "images");
  link(playground, "encoder", "encoder");
  link(playground, "CLIP", "clip");
  block.connect(0, add("PreviewImage"), 0);
  block.widgets.find(widget => widget.name.endsWith("person")).value = "block";
  return [block.title, block.widgets.map(widget => widget.name.replace(/^\\d+: /, ""))];
})"""


def test_the_ready_made_block_asks(host: Host, page: Any) -> None:
    (found,) = [k for k, entry in host.request("/global_subgraphs").items() if entry["name"] == "Teach my taste"]
    workflow = json.loads(host.request(f"/global_subgraphs/{found}")["data"])
    title, widgets = page.evaluate(WIRE, workflow)
    assert title == "Teach my taste" and {"person", "mode", "show", "strength", "palate_pairs"} <= set(widgets)
    prompt = page.evaluate("() => window.app.graphToPrompt().then(found => found.output)")
    outputs = host.run(prompt)
    (asked,) = [one["palate_pairs"] for one in outputs.values() if "palate_pairs" in one]
    told = [host.request("/palate/answer", {"offer": pair["offer"], "outcome": "left"}) for pair in asked]
    assert [one["answers"] for one in told] == [1, 2]
    # The images that went in come out again, for whatever follows.
    assert len(next(one["images"] for one in outputs.values() if "images" in one)) == 4
