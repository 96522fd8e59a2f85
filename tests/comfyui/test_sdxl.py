"""SDXL's two text encoders at their true shapes, with random weights, in a real ComfyUI."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from clip_files import write_sdxl
from comfy_host import Host, NodeError
from graphs import Graph, adapt, collect, node, playground, probe
from safetensors.torch import load_file

TEXT = "a large red star on the left, " + "dotted mint background, " * 20  # two chunks of 77 tokens


@pytest.fixture(scope="module")
def sdxl(host: Host) -> Iterator[Host]:
    """The host with SDXL's text encoders in its model folders."""
    models = host.folder / "models"
    write_sdxl(models / "text_encoders", models / "clip_vision")
    (pair,) = host.run(collect(playground(), "kai", "a house", batch=2))["collect"]["palate_pairs"]
    host.request("/palate/answer", {"offer": pair["offer"], "outcome": "left"})
    yield host
    host.request("/free", {"unload_models": True, "free_memory": True})


def loaded() -> Graph:
    """SDXL's CLIP, and for each of its text encoders a CLIP and the taste that was learned with it."""
    graph = {
        "clip": node("DualCLIPLoader", clip_name1="clip_l.safetensors", clip_name2="clip_g.safetensors", type="sdxl")
    }
    for tower, width in (("l", 768), ("g", 1280)):
        graph[tower] = node("PalateLoadEncoder", file=f"clip_vision/wide-{width}.safetensors")
        graph[f"taste {tower}"] = node(
            "PalateFitTaste", person="kai", encoder=[tower, 0], prior_variance=0.0, without_answers="stop and say so"
        )
    return graph


def steered(first: str, second: str = "", text: str = "a red house", **more: object) -> dict:
    """An adapting node with one taste or two."""
    if second:
        more |= {"taste_2": [f"taste {second}", 0], "encoder_2": [second, 0]}
    return adapt(text, [f"taste {first}", 0], [first, 0], clip=["clip", 0], steps=1, **more)


def kept_inputs(adapting: dict) -> dict:
    """An adapting node's inputs, for the node that takes no text."""
    return {name: value for name, value in adapting["inputs"].items() if name not in ("clip", "text")}


def seen(host: Host, graph: Graph, *names: str) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Token states and pooled vectors of these nodes."""
    host.run(graph | {f"probe {name}": probe([name, 0], f"sdxl {name}") for name in names})
    found = [host.probe(f"sdxl {name}")[0] for name in names]
    return [(states, rest["pooled_output"]) for states, rest in found]


def test_the_towers_are_what_the_host_encodes_with(sdxl: Host) -> None:
    graph = loaded()
    graph["plain"] = node("CLIPTextEncode", text=TEXT, clip=["clip", 0])
    graph["towers"] = node("PalateProbeTowers", clip=["clip", 0], text=TEXT, name="sdxl towers")
    ((states, pooled),) = seen(sdxl, graph, "plain")
    towers = sdxl.probe("sdxl towers")
    assert list(towers) == ["clip_l", "clip_g"]
    mine = torch.cat([tower["tokens"].reshape(1, 154, -1) for tower in towers.values()], dim=-1)
    assert torch.allclose(mine, states, atol=1e-3)  # of values up to 26
    assert torch.allclose(towers["clip_g"]["pooled"][:1], pooled, atol=1e-4)
    assert not any(tower["normed"] for tower in towers.values()) and all(tower["can move"] for tower in towers.values())


def test_both_text_encoders_follow_their_tastes_and_another_strength_is_at_once(sdxl: Host) -> None:
    graph = loaded()
    graph["plain"] = node("CLIPTextEncode", text="a red house", clip=["clip", 0])
    graph["off"] = steered("l", "g", method="auto", strength=0.0)
    graph["whole"] = steered("l", "g", method="auto")
    graph["turned around"] = steered("g", "l", method="token_input", strength=2.0, limit=180.0)
    graph["held"] = steered("l", "g", method="token_input", limit=1.0)
    graph["kept"] = node("PalateProbeKept", after=["whole", 0], name="kept before")
    names = ("plain", "off", "whole")
    (plain, pooled), off, (whole, moved) = seen(sdxl, graph, *names)
    kept = sdxl.probe("kept before")
    graph["kept"] = node("PalateProbeKept", after=["turned around", 0], name="kept after")
    twice, held = seen(sdxl, graph, "turned around", "held")

    assert plain.shape == whole.shape == (1, 77, 2048) and pooled.shape == moved.shape == (1, 1280)
    assert torch.equal(off[0], plain) and torch.equal(off[1], pooled)
    change = (whole - plain).split([768, 1280], dim=-1)
    for half in change:
        rows = half.norm(dim=-1)[0]
        assert rows[0] == 0 and (rows[1:] > 0).all()  # all but the start token
    assert not torch.equal(moved, pooled) and torch.isfinite(whole).all()
    assert torch.allclose(twice[0] - plain, 2 * (whole - plain), atol=1e-3)
    assert torch.allclose(twice[1] - pooled, 2 * (moved - pooled), atol=1e-3)
    assert 0 < (held[0] - plain).norm() < (whole - plain).norm() / 3
    assert sdxl.probe("kept after") == kept  # nothing was made anew


def test_a_taste_moves_only_the_text_encoder_of_its_encoder(sdxl: Host) -> None:
    graph = loaded()
    graph["plain"] = node("CLIPTextEncode", text="a red house", clip=["clip", 0])
    graph["eos"] = steered("l", method="eos_token")
    graph["pooled"] = steered("g", "l", method="pooled")
    graph["adapted"] = node("PalateAdaptClip", clip=["clip", 0], **kept_inputs(graph["pooled"]))
    graph["later"] = node("CLIPTextEncode", text="a red house", clip=["adapted", 0])
    graph["skip"] = node("CLIPSetLastLayer", clip=["clip", 0], stop_at_clip_layer=-3)
    graph["plain skip"] = node("CLIPTextEncode", text="a red house", clip=["skip", 0])
    graph["eos skip"] = steered("l", method="eos_token")
    graph["eos skip"]["inputs"]["clip"] = ["skip", 0]
    names = ("plain", "eos", "pooled", "later", "plain skip", "eos skip")
    (plain, x), (eos, same), (still, moved), later, skipped, (eos_skipped, _) = seen(sdxl, graph, *names)

    rows = (eos - plain)[..., :768].norm(dim=-1)[0]
    assert (rows > 0).nonzero().max() == 4  # start, three words, end
    assert torch.equal(eos[..., 768:], plain[..., 768:]) and torch.equal(same, x)
    assert torch.equal(still, plain) and not torch.equal(moved, x)
    assert torch.allclose(moved.norm(), x.norm(), rtol=1e-3)
    assert torch.equal(later[0], still) and torch.equal(later[1], moved)
    assert not torch.equal(eos_skipped, skipped[0]) and not torch.equal(skipped[0], plain)
    assert torch.equal(eos_skipped[..., 768:], skipped[0][..., 768:])


@pytest.mark.parametrize("text", [f"a (red:1.3) house, {TEXT}", ""], ids=["long and weighted", "none"])
def test_long_and_weighted_prompts_and_no_prompt_at_all(sdxl: Host, text: str) -> None:
    """By a way that is quick at these sizes."""
    graph = loaded()
    graph["plain"] = node("CLIPTextEncode", text=text, clip=["clip", 0])
    graph["eos"] = steered("l", text=text, method="eos_token")
    (plain, pooled), (states, same) = seen(sdxl, graph, "plain", "eos")
    assert states.shape == plain.shape == (1, 154 if text else 77, 2048)
    assert torch.isfinite(states).all() and torch.equal(pooled, same)
    assert torch.equal(states[..., 768:], plain[..., 768:]) and not torch.equal(states, plain)


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"first": "l", "method": "pooled"}, "'pooled': found a taste for clip_l.*bigG/14"),
        ({"first": "g", "second": "g"}, "two tastes at once.*Blend Tastes"),
        ({"first": "l", "taste_2": ["taste g", 0]}, "found taste_2 without encoder_2"),
        ({"first": "l", "encoder_2": ["g", 0]}, "found encoder_2 without taste_2"),
        ({"first": "l", "taste_2": ["taste g", 0], "encoder_2": ["l", 0]}, "Choose that encoder"),
        ({"first": "p"}, "clip_l, which is 768 wide, OpenAI's CLIP ViT-L/14.*clip_g, which is 1280 wide, OpenCLIP"),
    ],
)
def test_what_does_not_fit_is_named_with_what_would(sdxl: Host, inputs: dict, said: str) -> None:
    graph = loaded() | {"playground": node("PalateLoadPlayground")}
    graph["p"] = node("PalateLoadEncoder", file="clip_vision/wide-96.safetensors")
    graph["taste p"] = graph["taste l"] | {"inputs": graph["taste l"]["inputs"] | {"encoder": ["p", 0]}}
    graph["steered"] = steered(**inputs)
    with pytest.raises(NodeError, match=said):
        seen(sdxl, graph, "steered")


def test_the_checkpoint_is_never_written_to(sdxl: Host) -> None:
    graph = loaded()
    graph["after"] = steered("g", method="pooled", text="once more")
    graph["probe"] = probe(["after", 0], "sdxl after")
    graph["clip probe"] = probe(["clip", 0], "sdxl clip")
    sdxl.run(graph)
    kept = sdxl.probe("sdxl clip")
    for name in ("clip_l", "clip_g"):
        for key, tensor in load_file(sdxl.folder / "models" / "text_encoders" / f"{name}.safetensors").items():
            if key.startswith("text_model."):
                assert torch.equal(kept[f"{name}.transformer.{key}"], tensor), key
