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


def test_a_scheduled_lora_gives_as_many_entries_as_in_the_host_each_steered_on_its_own(host: Host, taught: str) -> None:
    host.run(playground() | {"probe": probe(["load", 1], "clip to hook")})
    name = "text_model.encoder.layers.0.mlp.fc1"
    up, down = host.probe("clip to hook")[f"clip_l.transformer.{name}.weight"].shape
    draw = torch.Generator().manual_seed(1)
    (host.folder / "models" / "loras").mkdir(parents=True, exist_ok=True)
    lora = {
        "lora_up.weight": torch.randn(up, 2, generator=draw),
        "lora_down.weight": torch.randn(2, down, generator=draw),
    }
    kohya = "lora_te_" + name.replace(".", "_")
    save_file({f"{kohya}.{key}": value for key, value in lora.items()}, host.folder / "models/loras/later.safetensors")

    graph = playground()
    graph["lora"] = node("CreateHookLora", lora_name="later.safetensors", strength_model=0.0, strength_clip=0.1)
    graph["early"] = node("CreateHookKeyframe", strength_mult=0.0, start_percent=0.0)
    graph["late"] = node("CreateHookKeyframe", strength_mult=1.0, start_percent=0.5, prev_hook_kf=["early", 0])
    graph["hooks"] = node("SetHookKeyframes", hooks=["lora", 0], hook_kf=["late", 0])
    graph["hooked"] = node(
        "SetClipHooks", clip=["load", 1], hooks=["hooks", 0], apply_to_conds=True, schedule_clip=True
    )
    graph["plain"] = node("CLIPTextEncode", text="a star", clip=["hooked", 0])
    taste = fit(graph, taught, ["load", 3])
    graph["steered"] = adapt("a star", taste, ["load", 3], clip=["hooked", 0], method="token_input")
    for which in ("plain", "steered"):
        graph[f"probe {which}"] = probe([which, 0], f"hook {which}")
    host.run(graph)
    plain, moved = ([states for states, _ in host.probe(f"hook {which}")] for which in ("plain", "steered"))
    assert len(plain) == len(moved) == 2
    assert not torch.allclose(plain[0], plain[1], atol=1e-2) and not torch.allclose(moved[0], moved[1], atol=1e-2)
    assert all(not torch.equal(a, b) for a, b in zip(plain, moved, strict=True))
