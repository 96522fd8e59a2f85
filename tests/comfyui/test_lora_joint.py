"""A LoRA for SD3 or Flux, key by key, as ComfyUI's own loader takes it: every layer finds its weight and fits it.

At true widths and with fewer blocks: each block is like the others but the last, which is there, too.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import torch
from comfy_host import find_comfyui
from palate.adapters.files.lora_file import save_lora
from palate.adapters.finetune.activations import without_weights
from palate.adapters.finetune.lora import add_lora

# What diffusers calls each model, and ComfyUI.
MODELS = {
    "sd3": (
        {"_class_name": "SD3Transformer2DModel", "sample_size": 128, "patch_size": 2, "in_channels": 16,
         "num_layers": 24, "attention_head_dim": 64, "num_attention_heads": 24, "joint_attention_dim": 4096,
         "caption_projection_dim": 1536, "pooled_projection_dim": 2048, "out_channels": 16, "pos_embed_max_size": 192},
        "SD3", {"in_channels": 16, "patch_size": 2, "depth": 24, "input_size": None, "num_patches": 36864,
                "pos_embed_max_size": 192, "adm_in_channels": 2048, "pos_embed_scaling_factor": None,
                "context_embedder_config": {"target": "torch.nn.Linear",
                                            "params": {"in_features": 4096, "out_features": 1536}}},
        24 * 8 - 1,
    ),
    "sd35-medium": (
        {"_class_name": "SD3Transformer2DModel", "sample_size": 128, "patch_size": 2, "in_channels": 16,
         "num_layers": 24, "attention_head_dim": 64, "num_attention_heads": 24, "joint_attention_dim": 4096,
         "caption_projection_dim": 1536, "pooled_projection_dim": 2048, "out_channels": 16, "pos_embed_max_size": 384,
         "qk_norm": "rms_norm", "dual_attention_layers": list(range(13))},
        "SD3", {"in_channels": 16, "patch_size": 2, "depth": 24, "input_size": None, "num_patches": 147456,
                "pos_embed_max_size": 384, "adm_in_channels": 2048, "pos_embed_scaling_factor": None,
                "qk_norm": "rms", "x_block_self_attn_layers": list(range(13)),
                "context_embedder_config": {"target": "torch.nn.Linear",
                                            "params": {"in_features": 4096, "out_features": 1536}}},
        24 * 8 - 1 + 13 * 4,
    ),
    "flux": (
        {"_class_name": "FluxTransformer2DModel", "in_channels": 64, "num_layers": 2, "num_single_layers": 2,
         "attention_head_dim": 128, "num_attention_heads": 24, "joint_attention_dim": 4096,
         "pooled_projection_dim": 768, "guidance_embeds": True},
        "Flux", {"image_model": "flux", "in_channels": 16, "out_channels": 16, "patch_size": 2, "vec_in_dim": 768,
                 "context_in_dim": 4096, "hidden_size": 3072, "mlp_ratio": 4.0, "num_heads": 24, "depth": 2,
                 "depth_single_blocks": 2, "axes_dim": [16, 56, 56], "theta": 10000, "qkv_bias": True,
                 "guidance_embed": True, "txt_ids_dims": []},
        2 * 8 + 2 * 3,
    ),
}  # fmt: skip
LOOK = """
import json, sys
sys.path.insert(0, ".")
from comfy.cli_args import args
args.cpu = True
import torch, comfy.lora, comfy.supported_models, comfy.utils

def shape(weights, key):
    if isinstance(key, str):
        return tuple(weights[key].shape)
    where, (dim, start, length) = weights[key[0]], key[1]
    assert start + length <= where.shape[dim]
    return tuple(where.narrow(dim, start, length).shape)

told = {}
for kind, (file, name, config) in json.loads(sys.argv[1]).items():
    model = getattr(comfy.supported_models, name)({**config, "dtype": torch.float16}).get_model({}, "", device="meta")
    keys = comfy.lora.model_lora_keys_unet(model, {})
    loaded, weights = comfy.lora.load_lora(comfy.utils.load_torch_file(file), keys), model.state_dict()
    fits = [
        (one.weights[0].shape[0], one.weights[1].shape[1]) == shape(weights, key) for key, one in loaded.items()
    ]
    told[kind] = [len(loaded), sum(fits)]
print("LOADED", json.dumps(told))
"""


def saved(kind: str, folder: Path) -> Path:
    """A LoRA of the right shapes on every layer that is trained."""
    config, _, _, layers = MODELS[kind]
    denoiser = without_weights(config)
    add_lora(denoiser, 1)
    state = {}
    for name, parameter in denoiser.named_parameters():
        if ".lora_" in name:
            layer, _, half = name.removesuffix(".palate.weight").rpartition(".lora_")
            state[f"{layer}.{'down' if half == 'A' else 'up'}"] = torch.zeros(parameter.shape)
    assert len(state) == 2 * layers
    return save_lora(state, folder / kind, kind)


def test_every_layer_finds_its_weight_and_fits_it(tmp_path: Path) -> None:
    asked = {kind: (str(saved(kind, tmp_path)), name, config) for kind, (_, name, config, _) in MODELS.items()}
    found = find_comfyui()
    if isinstance(found, str):
        pytest.skip(found)
    folder, python = found
    done = subprocess.run(
        [str(python), "-c", LOOK, json.dumps(asked)],
        cwd=folder, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert "not loaded" not in done.stderr + done.stdout, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("LOADED ")] or [done.stderr]
    assert json.loads(line.removeprefix("LOADED ")) == {kind: [one[3], one[3]] for kind, one in MODELS.items()}
