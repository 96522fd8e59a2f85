"""The ways of steering in a real ComfyUI: chunks, prompt weights, clip skip, a CLIP for any node that encodes."""

from __future__ import annotations

import pytest
import torch
from comfy_host import Host, NodeError
from graphs import adapt, collect, fit, node, playground, probe
from safetensors.torch import save_file

TEXT = "a large (red:1.3) star on the left, " + "dotted mint background, " * 20  # two chunks of 77 tokens


@pytest.fixture(scope="module")
def taught(host: Host) -> str:
    """A person with two answers."""
    for pair in host.run(collect(playground(), "wes", "a red star"))["collect"]["palate_pairs"]:
        host.request("/palate/answer", {"offer": pair["offer"], "outcome": "right"})
    return "wes"


def states(host: Host, name: str) -> torch.Tensor:
    return host.probe(name)[0][0]


def test_each_way_moves_what_it_says(host: Host, taught: str) -> None:
    graph = playground()
    taste = fit(graph, taught, ["load", 3])
    graph["plain"] = node("CLIPTextEncode", text=TEXT, clip=["load", 1])
    for method in ("token_input", "eos_token"):
        graph[method] = adapt(TEXT, taste, ["load", 3])
        graph[method]["inputs"]["method"] = method
        graph[f"held {method}"] = node("PalateAdaptConditioning", **graph[method]["inputs"], limit=1.0)
    names = [name for name in graph if name == "plain" or name.endswith(("token_input", "eos_token"))]
    for name in names:
        graph[f"probe {name}"] = probe([name, 0], f"way {name}")
    host.run(graph)
    plain = states(host, "way plain")
    moved = {name: (states(host, f"way {name}") - plain).norm(dim=-1)[0] for name in names}
    assert int((moved["eos_token"] > 0).sum()) == 2  # one end token a chunk
    assert not moved["token_input"][[0, 77]].any() and moved["token_input"][1] > 0 and moved["token_input"][78] > 0
    for method in ("token_input", "eos_token"):
        assert 0 < moved[f"held {method}"].norm() < moved[method].norm() / 5


@pytest.mark.parametrize("method", ["encoder", "token_input", "eos_token"])
def test_an_adapted_clip_encodes_what_adapt_conditioning_encodes(host: Host, taught: str, method: str) -> None:
    """Clip skip comes after the one and before the other."""
    graph = playground()
    taste = fit(graph, taught, ["load", 3])
    more = {"taste": taste, "encoder": ["load", 3], "method": method, "steps": 2}
    graph["clip"] = node("PalateAdaptClip", clip=["load", 1], strength=1.0, **more)
    graph["off"] = node("PalateAdaptClip", clip=["load", 1], strength=0.0, **more)
    graph["skip after"] = node("CLIPSetLastLayer", clip=["clip", 0], stop_at_clip_layer=-2)
    graph["skip"] = node("CLIPSetLastLayer", clip=["load", 1], stop_at_clip_layer=-2)
    graph["one"] = node("CLIPTextEncode", text=TEXT, clip=["skip after", 0])
    graph["two"] = adapt(TEXT, taste, ["load", 3], clip=["skip", 0])
    graph["two"]["inputs"]["method"] = method
    graph["plain"] = node("CLIPTextEncode", text=TEXT, clip=["skip", 0])
    graph["unmoved"] = node("CLIPTextEncode", text=TEXT, clip=["off", 0])
    graph["untouched"] = node("CLIPTextEncode", text=TEXT, clip=["load", 1])
    for name in ("one", "two", "plain", "unmoved", "untouched"):
        graph[f"probe {name}"] = probe([name, 0], f"clip {name}")
    host.run(graph)
    one, two, plain, unmoved, untouched = (
        states(host, f"clip {name}") for name in ("one", "two", "plain", "unmoved", "untouched")
    )
    assert torch.equal(one, two) and not torch.equal(one, plain) and torch.equal(unmoved, untouched)


@pytest.mark.parametrize("method", ["encoder", "token_input"])
def test_a_textual_inversion_in_the_prompt_takes_part(host: Host, taught: str, method: str) -> None:
    """Two vectors of the right width and, in one prompt, one of another, which ComfyUI leaves out."""
    folder = host.folder / "models" / "embeddings"
    folder.mkdir(parents=True, exist_ok=True)
    vectors = torch.randn(2, 96, generator=torch.Generator().manual_seed(1))
    save_file({"good": vectors}, folder / "good.safetensors")
    save_file({"wide": torch.ones(1, 40)}, folder / "wide.safetensors")
    graph = playground()
    taste = fit(graph, taught, ["load", 3])
    texts = {
        "with": "a star, embedding:good , red",
        "without": "a star, red",
        "both": "a star, embedding:good embedding:wide , red",
    }
    for name, text in texts.items():
        graph[name] = adapt(text, taste, ["load", 3])
        graph[name]["inputs"]["method"] = method
        graph[f"probe {name}"] = probe([name, 0], f"inversion {name}")
    host.run(graph)
    moved, without, both = (states(host, f"inversion {name}") for name in texts)
    assert moved.shape == without.shape == both.shape and torch.isfinite(moved).all()
    assert not torch.allclose(moved, without, atol=1e-2)
    assert torch.allclose(moved, both, atol=1e-4)  # what is left out changes nothing


def test_a_clip_is_adapted_once(host: Host, taught: str) -> None:
    graph = playground()
    taste = fit(graph, taught, ["load", 3])
    more = {"taste": taste, "encoder": ["load", 3], "method": "eos_token", "strength": 1.0}
    graph["clip"] = node("PalateAdaptClip", clip=["load", 1], **more)
    graph["twice"] = node("PalateAdaptClip", clip=["clip", 0], **more)
    graph["probe"] = probe(["twice", 0], "twice")
    with pytest.raises(NodeError, match="adapted before"):
        host.run(graph)
