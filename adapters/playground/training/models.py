"""The playground's models: their shapes, untrained, and how a set of them is written as a pipeline folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .tokenizer import write_tokenizer

__all__ = ["CONTEXT", "Models", "new_models", "write_folder"]

CONTEXT = 96  # width of the text tower's output, which the denoiser attends to
EMBEDDING = 96  # width of the space that pictures and captions share


@dataclass
class Models:
    """diffusers' `AutoencoderKL` and `UNet2DConditionModel`, and transformers' `CLIPModel`."""

    vae: Any
    unet: Any
    clip: Any


def new_vae() -> Any:
    """8 pixels to a latent, four channels, 1.1 million weights."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(16, 32, 64, 64),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        # One group: several small ones would each take a plain background's hue for an offset and remove it.
        norm_num_groups=1,
        latent_channels=4,
        sample_size=128,
        scaling_factor=1.0,
    )


def new_unet() -> Any:
    """Two resolutions, attention to the text at both, 4.2 million weights."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(64, 128),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        # diffusers reads this field as the number of heads; 2 and 4 heads make them 32 wide at both resolutions.
        attention_head_dim=(2, 4),
        cross_attention_dim=CONTEXT,
        norm_num_groups=16,
    )


def new_clip() -> Any:
    """CLIP's two towers: text with its whole vocabulary, pictures at 64 pixels in patches of 8."""
    from transformers import CLIPConfig, CLIPModel

    text = {
        "vocab_size": 49408,
        "hidden_size": CONTEXT,
        "intermediate_size": 4 * CONTEXT,
        "num_hidden_layers": 4,
        "num_attention_heads": 3,
        "max_position_embeddings": 77,
        "hidden_act": "quick_gelu",
        "bos_token_id": 49406,
        "eos_token_id": 49407,
        "pad_token_id": 49407,
    }
    vision = {
        "hidden_size": 128,
        "intermediate_size": 512,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "image_size": 64,
        "patch_size": 8,
        "hidden_act": "quick_gelu",
    }
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=EMBEDDING))


def new_models(seed: int = 0) -> Models:
    """Fresh models; the same seed gives the same weights, and the caller's random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Models(vae=new_vae().eval(), unet=new_unet().eval(), clip=new_clip().eval())


def write_folder(models: Models, folder: Path, dtype: torch.dtype = torch.float16) -> Path:
    """Write models as a diffusers pipeline folder with a `clip/` beside the text encoder.

    Args:
        models: What to write; left as it is.
        folder: Made when missing; files of the same names are replaced.
        dtype: Of the weights in the files.
    """
    from diffusers import EulerDiscreteScheduler

    folder.mkdir(parents=True, exist_ok=True)
    for name, model in (("vae", models.vae), ("unet", models.unet)):
        _save_as(model, folder / name, dtype)
    _save_clip(models.clip, folder, dtype)
    write_tokenizer(folder / "tokenizer")
    EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        steps_offset=1,
    ).save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return folder


def _save_clip(clip: Any, folder: Path, dtype: torch.dtype) -> None:
    """Save a CLIP as a pipeline has it: its text tower as `text_encoder/`, the rest as `clip/`."""
    from safetensors.torch import save_file
    from transformers import CLIPTextModel

    state = {name: tensor.detach().to(dtype).contiguous() for name, tensor in clip.state_dict().items()}
    state = {name: tensor for name, tensor in state.items() if not name.endswith("position_ids")}
    text = CLIPTextModel(clip.config.text_config)
    own = {name.removeprefix("text_model."): t for name, t in state.items() if name.startswith("text_model.")}
    prefixed = all(name.startswith("text_model.") for name in text.state_dict())
    text.load_state_dict({f"text_model.{n}" if prefixed else n: t for n, t in own.items()}, strict=False)
    # The files are halves to be small; the config says float32, which is what transformers then loads them as.
    text.save_pretrained(folder / "text_encoder")
    # One layout whatever the version of transformers that wrote it: the names that Stable Diffusion's files have.
    save_file(
        {f"text_model.{name}": tensor for name, tensor in own.items()},
        folder / "text_encoder" / "model.safetensors",
        metadata={"format": "pt"},
    )
    (folder / "clip").mkdir(exist_ok=True)
    rest = {name: tensor for name, tensor in state.items() if not name.startswith("text_model.")}
    save_file(rest, folder / "clip" / "model.safetensors", metadata={"format": "pt"})
    clip.config.save_pretrained(folder / "clip")


def _save_as(model: Any, folder: Path, dtype: torch.dtype) -> None:
    """Save a diffusers model's weights as `dtype` without touching the model itself."""
    from safetensors.torch import save_file

    model.save_config(folder)
    state = {name: tensor.detach().to(dtype).contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, folder / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
