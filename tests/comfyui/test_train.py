"""The node that trains: from answers to a LoRA that ComfyUI's own loader takes, without training's libraries here."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from comfy_host import Host, NodeError
from graphs import Graph, answers, node, playground, probe, sample

QUICK = {"checkpoint": "playground", "loss": "mapo", "rank": 2, "steps": 3, "learning_rate": 0.001}


def trained(name: str, **settings: object) -> Graph:
    """The node alone."""
    return {"train": node("PalateTrainPreferenceLora", name=name, **(QUICK | settings))}


def at_work(words: str) -> list[Path]:
    """Processes of this command line."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            said = (process / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        found += [process] if words in said and "--starter" in said else []
    return found


def test_answers_become_a_lora_that_load_lora_takes_by_a_wire(host: Host) -> None:
    answers(host, "trainer")
    graph = playground() | trained("mine", person="trainer")
    graph["text"] = node("CLIPTextEncode", clip=["load", 1], text="a red star")
    images = sample(graph, "picture", ["text", 0])
    graph["lora"] = node("LoraLoaderModelOnly", model=["load", 0], lora_name=["train", 0], strength_model=1.0)
    graph["picture sample"]["inputs"]["model"] = ["lora", 0]
    graph["probe"] = probe(images, "trained")
    graph["models"] = node("PalateProbeModels", after=["train", 1], name="after training")
    before = len(host.log.read_text())
    told = host.run(graph)
    assert (host.folder / "models" / "loras" / "mine.safetensors").is_file()
    assert "Saved as mine.safetensors" in told["train"]["text"][0] and "did not see" in told["train"]["text"][0]
    assert "not loaded" not in host.log.read_text()[before:].lower()
    assert torch.isfinite(host.probe("trained")).all()
    assert not {"peft", "diffusers", "accelerate"} & set(host.probe("after training")["modules"])
    host.run(graph)  # nothing has changed, so nothing is trained again


def test_cancel_ends_the_process_and_somebody_elses_file_is_left_alone(host: Host) -> None:
    answers(host, "patient")
    run = host.queue(trained("slow", person="patient", steps=100_000))
    for _ in range(600):
        if at_work("comfyui slow"):
            break
        time.sleep(0.1)
    assert at_work("comfyui slow")
    host.request("/interrupt", {})
    with pytest.raises(NodeError, match="interrupted"):
        host.wait(run)
    assert not at_work("comfyui slow") and not (host.folder / "models" / "loras" / "slow.safetensors").exists()
    (host.folder / "models" / "loras" / "theirs.safetensors").write_bytes(b"not a LoRA")
    with pytest.raises(NodeError, match="is no LoRA of Palate's"):
        host.run(trained("theirs", person="patient"))
    with pytest.raises(NodeError, match="'stranger': found none"):
        host.run(trained("other", person="stranger"))


def test_pipelines_in_the_hosts_diffusers_folder_are_offered_and_handed_on(host: Host) -> None:
    answers(host, "painter")
    folder = host.folder / "models" / "diffusers" / "filling"
    folder.mkdir(parents=True)
    (folder / "model_index.json").write_text('{"_class_name": "FluxFillPipeline"}')
    info = host.request("/object_info/PalateTrainPreferenceLora")["PalateTrainPreferenceLora"]
    assert "diffusers/filling" in str(info["input"]["required"]["checkpoint"])
    with pytest.raises(NodeError, match=r"found a FluxFillPipeline; expected FLUX\.1-dev or -schnell"):
        host.run(trained("filler", person="painter", checkpoint="diffusers/filling"))
