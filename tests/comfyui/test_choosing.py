"""Choose Pair in a real ComfyUI: from a batch to the images worth asking about."""

from __future__ import annotations

import pytest
import torch
from comfy_host import Host, NodeError
from graphs import Graph, fit, node, playground, probe, sample


def chosen(graph: Graph, person: str, name: str, **more: object) -> Graph:
    """Add a batch of six, the fit and the node "choose", seen by a probe."""
    graph["text"] = node("CLIPTextEncode", text="a red star", clip=["load", 1])
    images = sample(graph, "six", ["text", 0], seed=4, batch=6)
    taste = fit(graph, person, ["load", 3])
    graph["fit"]["inputs"]["without_answers"] = "start with none"
    graph["choose"] = node("PalateChoosePair", images=images, taste=taste, encoder=["load", 3], **more)
    graph["probe"] = probe(["choose", 0], name)
    graph["probe six"] = probe(images, "six")
    return graph


def places(host: Host, name: str) -> list[int]:
    """Which of the six were passed on."""
    six = host.probe("six")
    return [next(k for k in range(len(six)) if torch.equal(six[k], image)) for image in host.probe(name)]


def test_a_batch_becomes_the_next_pair_from_the_first_run_on(host: Host) -> None:
    graph = chosen(playground(), "chooser", "first choice")
    graph["collect"] = node("PalateCollectPairs", images=["choose", 0], person="chooser", mode="record")
    (pair,) = host.run(graph)["collect"]["palate_pairs"]
    first = places(host, "first choice")
    assert len(set(first)) == 2
    host.request("/palate/answer", {"offer": pair["offer"], "outcome": "left"})
    host.run(graph)  # another taste, another choice: the one asked about is known by now
    assert len(set(places(host, "first choice"))) == 2 and set(places(host, "first choice")) != set(first)


def test_more_images_by_diversity_and_a_small_batch_is_passed_on_whole(host: Host) -> None:
    graph = chosen(playground(), "chooser of four", "four", count=4, diversity=1.0)
    graph["again"] = node("PalateChoosePair", **graph["choose"]["inputs"] | {"images": ["choose", 0], "count": 8})
    graph["probe again"] = probe(["again", 0], "again")
    del graph["choose"]["inputs"]["taste"]
    host.run(graph)
    assert len(set(places(host, "four"))) == 4 and places(host, "again") == places(host, "four")


def test_one_image_is_no_choice(host: Host) -> None:
    graph = playground() | {"grey": node("EmptyImage", width=64, height=64, batch_size=1, color=0)}
    graph["choose"] = node("PalateChoosePair", images=["grey", 0], encoder=["load", 3])
    graph["show"] = node("PreviewImage", images=["choose", 0])
    with pytest.raises(NodeError, match="PalateChoosePair: Cannot choose a pair: found 1 image"):
        host.run(graph)
