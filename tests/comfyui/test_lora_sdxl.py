"""A LoRA for SDXL at its true shapes, key by key, as ComfyUI's own loader takes it; no weight of SDXL is made."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import torch
from comfy_host import find_comfyui
from palate.adapters.files.lora_file import save_lora
from palate.adapters.finetune.lora import add_lora

SDXL = {
    "attention_head_dim": [5, 10, 20],
    "block_out_channels": [320, 640, 1280],
    "cross_attention_dim": 2048,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "layers_per_block": 2,
    "transformer_layers_per_block": [1, 2, 10],
    "use_linear_projection": True,
}
LOOK = """
import json, sys
sys.path.insert(0, ".")
from comfy.cli_args import args
args.cpu = True
import torch, comfy.lora, comfy.supported_models, comfy.utils
config = comfy.supported_models.SDXL({
    "in_channels": 4, "out_channels": 4, "model_channels": 320, "image_size": 32, "num_res_blocks": [2, 2, 2],
    "channel_mult": [1, 2, 4], "transformer_depth": [0, 0, 2, 2, 10, 10], "transformer_depth_middle": 10,
    "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10], "use_linear_in_transformer": True,
    "context_dim": 2048, "num_head_channels": 64, "num_heads": -1, "use_spatial_transformer": True,
    "num_classes": "sequential", "adm_in_channels": 2816, "legacy": False, "use_checkpoint": False,
    "use_temporal_attention": False, "dtype": torch.float16,
})
model = config.get_model({}, "", device="meta")
keys = comfy.lora.model_lora_keys_unet(model, {})
tensors = comfy.utils.load_torch_file(sys.argv[1])
loaded = comfy.lora.load_lora(tensors, keys)
weights = model.state_dict()
fits = [
    (adapter.weights[0].shape[0], adapter.weights[1].shape[1]) == tuple(weights[key].shape)
    for key, adapter in loaded.items()
]
print("LOADED", json.dumps([len(loaded), sum(fits)]))
"""


def test_every_layer_finds_its_weight_and_fits_it(tmp_path: Path) -> None:
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(**SDXL)
    add_lora(unet, 1)
    shapes = {name: parameter.shape for name, parameter in unet.named_parameters() if ".lora_" in name}
    state = {}
    for name, shape in shapes.items():
        layer, _, half = name.removesuffix(".palate.weight").rpartition(".lora_")
        state[f"{layer}.{'down' if half == 'A' else 'up'}"] = torch.zeros(shape)
    assert len(state) == 2 * 560  # 70 blocks, two attentions each, four projections each
    file = save_lora(state, tmp_path / "mine", "sdxl")
    found = find_comfyui()
    if isinstance(found, str):
        pytest.skip(found)
    folder, python = found
    done = subprocess.run(
        [str(python), "-c", LOOK, str(file)], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert "not loaded" not in done.stderr + done.stdout, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("LOADED ")] or [done.stderr]
    assert json.loads(line.removeprefix("LOADED ")) == [560, 560]
