"""A user in models of Stable Diffusion's true widths, with random weights."""

from __future__ import annotations

import pytest
import torch
from clip_files import filled
from comfy_host import Host
from graphs import Graph, node
from palate.adapters.files import save_ppd, save_user
from palate.adapters.ppd.layers import LayerShape
from safetensors.torch import save_file
from sd15_files import unet as sd15_unet
from user_graphs import apply, draw_with, drawn, random_ppd, random_user

BLOCKS = {
    "sd15": [(block, 320, 8) for block in ("down_blocks.0.attentions.0", "up_blocks.0.attentions.0",
                                           "up_blocks.0.attentions.1", "mid_block.attentions.0")],
    "sdxl": [("down_blocks.1.attentions.0", 640, 10), ("down_blocks.2.attentions.0", 1280, 20),
             ("up_blocks.0.attentions.0", 1280, 20), ("up_blocks.0.attentions.1", 1280, 20),
             ("up_blocks.1.attentions.0", 640, 10), ("up_blocks.1.attentions.1", 640, 10),
             ("mid_block.attentions.0", 1280, 20)],
}  # fmt: skip


def large(host: Host, base: str) -> Graph:
    """A model with the base's widths, a random PPD and user for it, and a LoRA file "<base>.safetensors"."""
    layers = [LayerShape(f"{name}.transformer_blocks.0.attn2", *[width] * 2, heads, width)
              for name, width, heads in BLOCKS[base]]  # fmt: skip
    width = 768 if base == "sd15" else 2048
    ppd = random_ppd(layers, width, base)
    folder = host.folder / "models"
    for kind in ("model_patches", "diffusion_models", "loras"):
        (folder / kind).mkdir(exist_ok=True)
    save_ppd(ppd, folder / "model_patches" / f"{base}-ppd.safetensors")
    save_user(random_user(ppd, 1), host.home / "users" / f"{base}.safetensors")
    block, channels, _ = BLOCKS[base][-1]
    name = f"lora_unet_{block.replace('.', '_')}_transformer_blocks_0_attn2_to_q"
    down = torch.randn(4, channels, generator=torch.Generator().manual_seed(1))
    save_file({f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": 0.05 * down.T.contiguous()},
              folder / "loras" / f"{base}.safetensors")  # fmt: skip
    graph = {"load": node("PalateProbeDenoiser", what="sdxl")}
    if base == "sd15":
        save_file(filled(sd15_unet()), folder / "diffusion_models" / "sd15-unet.safetensors")
        graph = {"load": node("UNETLoader", unet_name="sd15-unet.safetensors", weight_dtype="default")}
    return graph | {
        "ppd": node("PalateLoadPPD", file=f"model_patches/{base}-ppd.safetensors"),
        "user": node("PalateLoadUser", file=f"{base}.safetensors", ppd=["ppd", 0]),
        "text": node("PalateProbeText", width=width, seed=1),
        "no text": node("PalateProbeText", width=width, seed=2),
        "latent": node("EmptyLatentImage", width=64, height=64, batch_size=1),
    }


@pytest.mark.parametrize("base", ["sd15", "sdxl"])
def test_stable_diffusion_at_its_true_widths(host: Host, base: str) -> None:
    graph = large(host, base)
    user = apply(graph, "for a user")
    graph["lora"] = node("LoraLoaderModelOnly", model=["load", 0], lora_name=f"{base}.safetensors", strength_model=1.0)
    graph["later"] = graph["lora"] | {"inputs": graph["lora"]["inputs"] | {"model": user}}
    graph["other"] = node("PalateProbeOtherPack", model=user, what="replace")
    models = {
        "base": ["load", 0],
        "off": apply(graph, "off", strength=0.0),
        "user": user,
        "lora": apply(graph, "after a lora", ["lora", 0]),
        "lora later": ["later", 0],
        "other": ["other", 0],
    }
    for name, model in models.items():
        draw_with(graph, f"{base} {name}", model, steps=1)
    plain, off, on, lora_first, lora_last, other = drawn(host, graph, *(f"{base} {name}" for name in models))
    assert torch.equal(plain, off) and torch.equal(lora_first, lora_last)
    different = [plain, on, lora_first, other]
    assert all(torch.isfinite(one).all() for one in different)
    assert len({float(one.double().sum()) for one in different}) == len(different)
    host.request("/free", {"unload_models": True, "free_memory": True})
