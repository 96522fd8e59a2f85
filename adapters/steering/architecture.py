"""diffusers' configuration of a single-file checkpoint, so that nothing has to be fetched from the hub to read one.

What all models of a family share (kinds of blocks, heads, noise schedule) is written down here; widths and depths are
read off the tensors, so that slimmed and enlarged variants load, too.

Source: the configurations published with Stable Diffusion 1.5 and SDXL 1.0 base.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .checkpoint_kind import UNET, Shapes

__all__ = ["write_configuration", "write_tokenizer"]

_CLIP_L = {
    "sd15": "cond_stage_model.transformer.text_model.",
    "sdxl": "conditioner.embedders.0.transformer.text_model.",
}
_CLIP_G = "conditioner.embedders.1.model."
_START, _END = 49406, 49407  # CLIP's start and end tokens
_NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
Config = dict[str, Any]


def write_configuration(folder: Path, family: str, shapes: Shapes) -> None:
    """Write a pipeline folder without weights: model_index.json, every part's configuration, and the tokenizers.

    Args:
        folder: Empty, or not there yet.
        family: "sd15" or "sdxl".
        shapes: Of the checkpoint's tensors.

    Raises:
        KeyError: a tensor that every checkpoint of this family has is missing.
    """
    large = family == "sdxl"
    parts: dict[str, tuple[str, str, Config]] = {
        "unet": ("diffusers", "UNet2DConditionModel", _unet(shapes, large)),
        "vae": ("diffusers", "AutoencoderKL", _vae(shapes, large)),
        "text_encoder": ("transformers", "CLIPTextModel", _clip_l(shapes, _CLIP_L[family])),
        "scheduler": ("diffusers", *_scheduler(shapes, large)),
    }
    if large:
        parts["text_encoder_2"] = ("transformers", "CLIPTextModelWithProjection", _clip_g(shapes))
    for name, (_, kind, config) in parts.items():
        file = "scheduler_config.json" if name == "scheduler" else "config.json"
        _write(folder / name / file, config | {"_class_name": kind})
    index: Config = {name: [library, kind] for name, (library, kind, _) in parts.items()}
    for name, padding in (("tokenizer", "<|endoftext|>"), ("tokenizer_2", "!"))[: 1 + large]:
        write_tokenizer(folder / name, padding)
        index[name] = ["transformers", "CLIPTokenizer"]
    index |= {"feature_extractor": [None, None], "image_encoder": [None, None]}
    if large:
        index |= {"_class_name": "StableDiffusionXLPipeline", "force_zeros_for_empty_prompt": True}
    else:
        index |= {"_class_name": "StableDiffusionPipeline", "safety_checker": [None, None]}
        index["requires_safety_checker"] = False
    _write(folder / "model_index.json", index)


def _unet(shapes: Shapes, large: bool) -> Config:
    width, channels = shapes[f"{UNET}input_blocks.0.0.weight"][:2]
    attention = f"{UNET}input_blocks.{4 if large else 1}.1"
    config: Config = {
        "act_fn": "silu",
        "cross_attention_dim": shapes[f"{attention}.transformer_blocks.0.attn2.to_k.weight"][1],
        "downsample_padding": 1,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "in_channels": channels,
        "layers_per_block": 2,
        "mid_block_scale_factor": 1,
        "norm_eps": 1e-5,
        "norm_num_groups": 32,
        "out_channels": 4,
        "sample_size": 128 if large else 64,
        "use_linear_projection": len(shapes[f"{attention}.proj_in.weight"]) == 2,
    }
    if not large:
        with_text = ["CrossAttnDownBlock2D"] * 3
        return config | {
            "attention_head_dim": 8,
            "block_out_channels": [width, 2 * width, 4 * width, 4 * width],
            "down_block_types": [*with_text, "DownBlock2D"],
            "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3],
        }
    extra = shapes[f"{UNET}label_emb.0.0.weight"][1]
    return config | {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": (extra - shapes[f"{_CLIP_G}text_projection"][1]) // 6,
        "attention_head_dim": [max(width * times // 64, 1) for times in (1, 2, 4)],
        "block_out_channels": [width, 2 * width, 4 * width],
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "projection_class_embeddings_input_dim": extra,
        "transformer_layers_per_block": [
            1,
            _count(shapes, f"{UNET}input_blocks.4.1.transformer_blocks."),
            _count(shapes, f"{UNET}input_blocks.7.1.transformer_blocks."),
        ],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    }


def _vae(shapes: Shapes, large: bool) -> Config:
    width = shapes["first_stage_model.encoder.conv_in.weight"][0]
    return {
        "act_fn": "silu",
        "block_out_channels": [width, 2 * width, 4 * width, 4 * width],
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "force_upcast": True,  # SDXL's overflows in float16
        "latent_channels": 4,
        "layers_per_block": 2,
        "norm_num_groups": 32,
        "sample_size": 1024 if large else 512,
        "scaling_factor": 0.13025 if large else 0.18215,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
    }


def _clip_l(shapes: Shapes, start: str) -> Config:
    positions, width = shapes[f"{start}embeddings.position_embedding.weight"]
    return _clip(width, positions) | {
        "hidden_act": "quick_gelu",
        "intermediate_size": shapes[f"{start}encoder.layers.0.mlp.fc1.weight"][0],
        "num_hidden_layers": _count(shapes, f"{start}encoder.layers."),
        "projection_dim": width,
        "vocab_size": shapes[f"{start}embeddings.token_embedding.weight"][0],
    }


def _clip_g(shapes: Shapes) -> Config:
    positions, width = shapes[f"{_CLIP_G}positional_embedding"]
    return _clip(width, positions) | {
        "hidden_act": "gelu",
        "intermediate_size": shapes[f"{_CLIP_G}transformer.resblocks.0.mlp.c_fc.weight"][0],
        "num_hidden_layers": _count(shapes, f"{_CLIP_G}transformer.resblocks."),
        "projection_dim": shapes[f"{_CLIP_G}text_projection"][1],
        "vocab_size": shapes[f"{_CLIP_G}token_embedding.weight"][0],
    }


def _clip(width: int, positions: int) -> Config:
    return {
        "bos_token_id": _START,
        "eos_token_id": _END,
        "hidden_size": width,
        "layer_norm_eps": 1e-5,
        "max_position_embeddings": positions,
        "model_type": "clip_text_model",
        "num_attention_heads": max(width // 64, 1),
        "pad_token_id": 1,
    }


def _scheduler(shapes: Shapes, large: bool) -> tuple[str, Config]:
    # Checkpoints that were trained otherwise say so by an empty tensor of this name.
    prediction = {"prediction_type": "v_prediction" if "v_pred" in shapes else "epsilon"}
    if not large:
        also = {"clip_sample": False, "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1}
        return "PNDMScheduler", _NOISE | prediction | also
    zero = {"rescale_betas_zero_snr": "ztsnr" in shapes}
    return "EulerDiscreteScheduler", _NOISE | prediction | zero | {"steps_offset": 1, "timestep_spacing": "leading"}


def write_tokenizer(folder: Path, padding: str) -> None:
    """Write CLIP's tokenizer, which fills up with this token."""
    from ..playground import playground_folder

    source = Path(playground_folder()) / "tokenizer"  # CLIP's own, which all these models share
    for name in ("vocab.json", "merges.txt"):
        _write(folder / name, (source / name).read_text(encoding="utf-8"))
    config = json.loads((source / "tokenizer_config.json").read_text(encoding="utf-8"))
    _write(folder / "tokenizer_config.json", config | {"pad_token": padding})


def _count(shapes: Shapes, start: str) -> int:
    return len({name.removeprefix(start).split(".", 1)[0] for name in shapes if name.startswith(start)})


def _write(file: Path, content: Config | str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
