"""Stable Diffusion 1.5 at its true shapes, with random weights, through the same graph as the playground."""

from __future__ import annotations

import time

import pytest
import torch
from comfy_host import Host, NodeError
from graphs import Graph, adapt, collect, fit, node, probe, sample
from sd15_files import write_sd15

FILE = "clip_vision/clip-l.safetensors"


@pytest.fixture(scope="module")
def sd15(host: Host) -> Host:
    """The host with both files in its model folders, and one answer of "dora"."""
    models = host.folder / "models"
    write_sd15(models / "checkpoints" / "sd15.safetensors", models / "clip_vision" / "clip-l.safetensors")
    (pair,) = host.run(collect(loaded(), "dora", "a house", batch=2))["collect"]["palate_pairs"]
    host.request("/palate/answer", {"offer": pair["offer"], "outcome": "left"})
    yield host
    host.request("/free", {"unload_models": True, "free_memory": True})


def loaded() -> Graph:
    return {
        "load": node("CheckpointLoaderSimple", ckpt_name="sd15.safetensors"),
        "encoder": node("PalateLoadEncoder", file=FILE),
    }


def test_sd15_is_steered_and_ranked(sd15: Host) -> None:
    graph = loaded()
    taste = fit(graph, "dora", ["encoder", 0])
    graph["plain"] = node("CLIPTextEncode", text="a (red:1.2) house", clip=["load", 1])
    graph["steered"] = adapt("a (red:1.2) house", taste, ["encoder", 0], steps=1)
    graph["off"] = adapt("a (red:1.2) house", taste, ["encoder", 0], strength=0.0)
    for name in ("plain", "steered", "off"):
        graph[f"probe {name}"] = probe([name, 0], f"sd15 {name}")
    images = sample(graph, "with taste", ["steered", 0], batch=2)
    graph["rank"] = node("PalateRankImages", images=images, taste=taste, encoder=["encoder", 0], keep=0)
    graph["show"] = node("PreviewImage", images=["rank", 0])
    graph["probe clip"] = probe(["load", 1], "sd15 clip")
    graph["words"] = node("PalateAddLikedWords", text="a red house", taste=taste, encoder=["encoder", 0], words=2)
    graph["probe words"] = probe(["words", 0], "sd15 words")
    assert len(sd15.run(graph)["show"]["images"]) == 2

    plain, steered, off = (sd15.probe(f"sd15 {name}")[0][0] for name in ("plain", "steered", "off"))
    assert plain.shape == steered.shape == (1, 77, 768)
    assert torch.equal(off, plain)
    assert not torch.equal(steered, plain) and torch.isfinite(steered).all()

    assert sd15.probe("sd15 words").startswith("a red house")  # read by ComfyUI's own tokenizer

    # What is in the host's memory after steering is what is in the file.
    from safetensors.torch import load_file

    kept = sd15.probe("sd15 clip")
    for name, tensor in load_file(sd15.folder / "models" / "checkpoints" / "sd15.safetensors").items():
        if name.startswith("cond_stage_model."):
            there = kept["clip_l." + name.removeprefix("cond_stage_model.")]
            assert torch.equal(there, tensor.to(there.dtype)), name


@pytest.mark.parametrize("method", ["encoder", "token_input", "eos_token"])
def test_each_way_moves_what_it_says_and_nothing_else(sd15: Host, method: str) -> None:
    """With the last layer and with the one before it; "a red house" is five tokens with start and end."""
    graph = loaded()
    taste = fit(graph, "dora", ["encoder", 0])
    graph["skip"] = node("CLIPSetLastLayer", clip=["load", 1], stop_at_clip_layer=-2)
    for name, clip in (("last", ["load", 1]), ("skipped", ["skip", 0])):
        graph[f"plain {name}"] = node("CLIPTextEncode", text="a red house", clip=clip)
        graph[name] = adapt("a red house", taste, ["encoder", 0], steps=1, clip=clip, method=method)
    graph["off"] = adapt("a red house", taste, ["encoder", 0], 0.0, clip=["skip", 0], method=method)
    found = {}
    for name in ("plain last", "last", "plain skipped", "skipped", "off"):
        graph[f"probe {name}"] = probe([name, 0], f"sd15 {method} {name}")
    sd15.run(graph)
    for name in ("plain last", "last", "plain skipped", "skipped", "off"):
        states, rest = sd15.probe(f"sd15 {method} {name}")[0]
        found[name] = states
        if name == "plain last":
            pooled = rest["pooled_output"].nan_to_num()  # noise: SD1.5's checkpoint holds no projection
        assert torch.equal(rest["pooled_output"].nan_to_num(), pooled), name
    assert torch.equal(found["off"], found["plain skipped"])
    moved = {"encoder": range(77), "token_input": range(1, 77), "eos_token": [4]}[method]
    for name in ("last", "skipped"):
        plain, states = found[f"plain {name}"], found[name]
        assert states.shape == plain.shape == (1, 77, 768) and states.dtype == plain.dtype
        rows = (states - plain)[0].norm(dim=-1) > 0
        if method == "eos_token" and name == "skipped":
            moved = range(5)  # the last layer mixes them into the end token's
        assert set(rows.nonzero()[:, 0].tolist()) == set(moved), name


def test_a_lora_counts_before_adapt_clip_and_after_it(sd15: Host) -> None:
    graph = loaded()
    taste = fit(graph, "dora", ["encoder", 0])
    how = {"taste": taste, "encoder": ["encoder", 0], "method": "token_input", "strength": 1.0, "steps": 1}
    graph["lora"] = node("PalateProbeLora", clip=["load", 1])
    graph["adapted"] = node("PalateAdaptClip", clip=["load", 1], **how)
    graph["after"] = node("PalateProbeLora", clip=["adapted", 0])
    graph["before"] = node("PalateAdaptClip", clip=["lora", 0], **how)
    clips = {"plain": ["lora", 0], "after": ["after", 0], "before": ["before", 0], "without": ["adapted", 0]}
    for name, clip in clips.items():
        graph[f"encode {name}"] = node("CLIPTextEncode", text="a red house", clip=clip)
        graph[f"probe {name}"] = probe([f"encode {name}", 0], f"sd15 lora {name}")
    sd15.run(graph)
    plain, after, before, without = (sd15.probe(f"sd15 lora {name}")[0][0] for name in clips)
    assert torch.equal(after, before)
    assert not torch.equal(after, plain) and not torch.allclose(after, without, atol=1e-2)


def test_a_taste_from_a_file_steers(sd15: Host) -> None:
    graph = loaded()
    graph["save"] = node("PalateSaveTaste", taste=fit(graph, "dora", ["encoder", 0]), name="dora's")
    (file,) = sd15.run(graph)["save"]["text"]
    graph = loaded()
    graph["file"] = node("PalateLoadTaste", file=file.removeprefix("Saved as "), encoder=["encoder", 0])
    graph["plain"] = node("CLIPTextEncode", text="a house", clip=["load", 1])
    graph["steered"] = adapt("a house", ["file", 0], ["encoder", 0], steps=1, method="eos_token")
    for name in ("plain", "steered"):
        graph[f"probe {name}"] = probe([name, 0], f"sd15 file {name}")
    sd15.run(graph)
    plain, steered = (sd15.probe(f"sd15 file {name}")[0][0] for name in ("plain", "steered"))
    assert not torch.equal(plain, steered) and torch.isfinite(steered).all()


def test_pooled_is_for_sdxl_and_says_so(sd15: Host) -> None:
    graph = loaded()
    taste = fit(graph, "dora", ["encoder", 0])
    graph["steered"] = adapt("a house", taste, ["encoder", 0], method="pooled")
    graph["probe"] = probe(["steered", 0], "no pooled")
    with pytest.raises(NodeError, match=r"'pooled': found a taste for clip_l; expected SDXL.*'auto'"):
        sd15.run(graph)


@pytest.mark.parametrize(
    ("method", "gigabytes", "said"), [("encoder", 2.0, "token_input"), ("token_input", 0.4, "eos_token")]
)
def test_too_little_memory_is_said_before_it_is_taken(sd15: Host, method: str, gigabytes: float, said: str) -> None:
    graph = loaded()
    taste = fit(graph, "dora", ["encoder", 0])
    graph["steered"] = adapt("a large house", taste, ["encoder", 0], method=method)
    graph["probe"] = probe(["steered", 0], "no memory")
    sd15.run({"memory": node("PalateProbeMemory", gigabytes=gigabytes)})
    try:
        with pytest.raises(NodeError, match=f"found {gigabytes} GB of free memory.* Choose the method {said}"):
            sd15.run(graph)
    finally:
        sd15.run({"memory": node("PalateProbeMemory", gigabytes=0.0)})


def test_cancel_ends_an_adaptation_between_its_steps(sd15: Host) -> None:
    graph = loaded()
    taste = fit(graph, "dora", ["encoder", 0])
    graph["steered"] = adapt("a long wait", taste, ["encoder", 0], steps=50)
    graph["probe"] = probe(["steered", 0], "cancelled")
    prompt_id = sd15.queue(graph)
    time.sleep(2)  # inside the fifty steps, of about a second each
    while prompt_id not in sd15.request("/history"):
        sd15.request("/interrupt", {})
        time.sleep(0.1)
    with pytest.raises(NodeError, match="interrupted"):
        sd15.wait(prompt_id)
    assert not (sd15.folder / "probes" / "cancelled.pt").exists()


def test_a_taste_of_another_encoder_is_refused_with_both_names(sd15: Host) -> None:
    graph = loaded() | {"playground": node("PalateLoadPlayground")}
    taste = fit(graph, "dora", ["encoder", 0])
    graph["steered"] = adapt("a house", taste, ["playground", 3])
    graph["probe"] = probe(["steered", 0], "refused")
    with pytest.raises(NodeError, match=r"PalateAdaptConditioning: Cannot use .*clip-l.*playground"):
        sd15.run(graph)
    graph = loaded()
    graph["save"] = node("PalateSaveTaste", taste=fit(graph, "dora", ["encoder", 0]), name="dora")
    sd15.run(graph)
    graph = {"playground": node("PalateLoadPlayground")}
    graph["file"] = node("PalateLoadTaste", file="dora.safetensors", encoder=["playground", 3])
    graph["probe"] = probe(["file", 0], "refused")
    with pytest.raises(NodeError, match=r"PalateLoadTaste: Cannot use .*clip-l.*playground"):
        sd15.run(graph)


def test_an_image_tower_alone_ranks_but_does_not_steer(sd15: Host) -> None:
    from safetensors.torch import load_file, save_file

    folder = sd15.folder / "models" / "clip_vision"
    if not (folder / "vision.safetensors").exists():
        whole = load_file(folder / "clip-l.safetensors")
        image = {key: value for key, value in whole.items() if key.startswith(("vision_model.", "visual_projection."))}
        save_file(image, folder / "vision.safetensors")
    graph = loaded()
    graph["encoder"]["inputs"]["file"] = "clip_vision/vision.safetensors"
    taste = fit(graph, "dora", ["encoder", 0])
    graph["fitted"] = probe(["fit", 1], "answers")
    sd15.run(graph)
    assert sd15.probe("answers") == 1
    graph["steered"] = adapt("a house", taste, ["encoder", 0])
    graph["probe"] = probe(["steered", 0], "no projection")
    with pytest.raises(NodeError, match="no text projection"):
        sd15.run(graph)
