"""SDXL's two text encoders at their true shapes, with random weights, in a real ComfyUI."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from clip_files import write_sdxl
from comfy_host import Host
from graphs import Graph, node, probe

TEXT = "a large red star on the left, " + "dotted mint background, " * 20  # two chunks of 77 tokens


@pytest.fixture(scope="module")
def sdxl(host: Host) -> Iterator[Host]:
    """The host with SDXL's text encoders in its model folders."""
    models = host.folder / "models"
    write_sdxl(models / "text_encoders", models / "clip_vision")
    yield host
    host.request("/free", {"unload_models": True, "free_memory": True})


def loaded() -> Graph:
    return {
        "clip": node("DualCLIPLoader", clip_name1="clip_l.safetensors", clip_name2="clip_g.safetensors", type="sdxl")
    }


def test_the_towers_are_what_the_host_encodes_with(sdxl: Host) -> None:
    graph = loaded()
    graph["plain"] = node("CLIPTextEncode", text=TEXT, clip=["clip", 0])
    graph["probe"] = probe(["plain", 0], "sdxl plain")
    graph["towers"] = node("PalateProbeTowers", clip=["clip", 0], text=TEXT, name="sdxl towers")
    sdxl.run(graph)
    (states, rest), towers = sdxl.probe("sdxl plain")[0], sdxl.probe("sdxl towers")
    assert list(towers) == ["clip_l", "clip_g"]
    mine = torch.cat([tower["tokens"].reshape(1, 154, -1) for tower in towers.values()], dim=-1)
    assert torch.allclose(mine, states, atol=1e-3)  # of values up to 26
    assert torch.allclose(towers["clip_g"]["pooled"][:1], rest["pooled_output"], atol=1e-4)
    assert not any(tower["normed"] for tower in towers.values()) and all(tower["can move"] for tower in towers.values())
