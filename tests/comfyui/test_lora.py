"""A LoRA that `palate train lora` wrote, in ComfyUI's own loader."""

from __future__ import annotations

import torch
from comfy_host import Host
from graphs import Graph, node, playground, probe, sample
from palate.adapters.files.lora_file import save_lora
from palate.adapters.finetune.lora import add_lora, lora_of
from palate.adapters.steering.pipelines import load_pipeline

NAME = "palate-test.safetensors"


def graph(strength: float | None) -> Graph:
    """Two steps of the playground, with the LoRA at a strength or without it."""
    nodes = playground()
    nodes["text"] = node("CLIPTextEncode", clip=["load", 1], text="a red star")
    images = sample(nodes, "picture", ["text", 0])
    if strength is not None:
        nodes["lora"] = node("LoraLoaderModelOnly", model=["load", 0], lora_name=NAME, strength_model=strength)
        nodes["picture sample"]["inputs"]["model"] = ["lora", 0]
    nodes["probe"] = probe(images, f"lora {strength}")
    return nodes


def test_comfyui_loads_every_layer_of_it_and_it_changes_the_picture(host: Host) -> None:
    unet = load_pipeline("playground", torch.float32).pipeline.unet
    with torch.no_grad():
        for number, parameter in enumerate(add_lora(unet, 4)):
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)))
    folder = host.folder / "models" / "loras"
    folder.mkdir(exist_ok=True)
    save_lora(lora_of(unet), folder / NAME, "sd15")
    before = len(host.log.read_text())
    for strength in (None, 0.0, 1.0):
        host.run(graph(strength))
    said = host.log.read_text()[before:]
    assert "not loaded" not in said and "NOT LOADED" not in said
    plain, off, on = (host.probe(f"lora {strength}") for strength in (None, 0.0, 1.0))
    assert torch.equal(plain, off) and (on - plain).abs().mean() > 0.02
