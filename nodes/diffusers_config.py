"""What the configs in a diffusers folder say, in ComfyUI's words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.latent_formats
import comfy.model_base
import comfy.supported_models_base

from ..adapters.errors import FileFormatError

__all__ = ["GROUPS", "model_config", "unet_config", "unfit"]

# diffusers' name -> ComfyUI's; ComfyUI calls "linear" what is linear in the square root of beta.
_SCHEDULES = {"scaled_linear": "linear", "linear": "sqrt_linear", "squaredcos_cap_v2": "squaredcos_cap_v2"}
_PREDICTIONS = {"epsilon": comfy.model_base.ModelType.EPS, "v_prediction": comfy.model_base.ModelType.V_PREDICTION}
GROUPS = 32  # of every GroupNorm when ComfyUI builds a UNet
# diffusers' kinds of blocks, and whether they look at the text.
_ATTENDS = {"CrossAttnDownBlock2D": True, "DownBlock2D": False, "CrossAttnUpBlock2D": True, "UpBlock2D": False}


def unet_config(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Translate the config of a UNet2DConditionModel into the arguments of ComfyUI's UNetModel."""
    _require_plain(config, folder)
    channels = config["block_out_channels"]
    levels = len(channels)
    layers = _per_level(config["layers_per_block"], levels)
    depth = _per_level(config.get("transformer_layers_per_block", 1), levels)
    down = [depth[level] * _ATTENDS[name] for level, name in enumerate(config["down_block_types"])]
    up = [depth[level] * _ATTENDS[name] for level, name in enumerate(reversed(config["up_block_types"]))]
    heads = _per_level(config.get("num_attention_heads") or config["attention_head_dim"], levels)
    widths = {width // count for width, count in zip(channels, heads, strict=True)}
    if len(set(heads)) > 1 and len(widths) > 1:
        raise unfit(folder / "unet", f"heads {heads}", "one number of heads, or one width of a head")
    one_count = len(set(heads)) == 1
    return {
        "image_size": 32,
        "in_channels": config["in_channels"],
        "out_channels": config["out_channels"],
        "model_channels": channels[0],
        "channel_mult": [width // channels[0] for width in channels],
        "num_res_blocks": layers,
        "transformer_depth": [down[level] for level in range(levels) for _ in range(layers[level])],
        "transformer_depth_output": [up[level] for level in range(levels) for _ in range(layers[level] + 1)],
        "transformer_depth_middle": depth[-1] if config.get("mid_block_type", "UNetMidBlock2DCrossAttn") else -2,
        "num_heads": heads[0] if one_count else -1,
        "num_head_channels": -1 if one_count else widths.pop(),
        "context_dim": config["cross_attention_dim"],
        "use_spatial_transformer": True,
        "use_linear_in_transformer": config.get("use_linear_projection", False),
        "adm_in_channels": None,
        "use_temporal_attention": False,
        "legacy": False,
    }


def _require_plain(config: dict[str, Any], folder: Path) -> None:
    """Refuse what ComfyUI's UNetModel doesn't have."""
    channels = config["block_out_channels"]
    if any(width % channels[0] or width % GROUPS for width in channels):
        raise unfit(folder / "unet", f"channels {channels}", f"multiples of the first and of {GROUPS}")
    for name in ("class_embed_type", "addition_embed_type", "encoder_hid_dim_type"):
        if config.get(name) is not None:
            raise unfit(folder / "unet", f"{name} = {config[name]!r}", "none (SD1.x and SD2.x have none)")
    blocks = [*config["down_block_types"], *config["up_block_types"]]
    if strange := sorted(set(blocks) - set(_ATTENDS)):
        raise unfit(folder / "unet", ", ".join(strange), "CrossAttn or plain Down and Up blocks")


def model_config(unet: dict[str, Any], scheduler: dict[str, Any], scale: float, folder: Path) -> Any:
    """A model config as ComfyUI's detection would have made it, had it known this model."""
    schedule = _SCHEDULES.get(scheduler.get("beta_schedule", "linear"))
    prediction = _PREDICTIONS.get(scheduler.get("prediction_type", "epsilon"))
    if schedule is None or prediction is None:
        found = f"{scheduler.get('beta_schedule')} with {scheduler.get('prediction_type')}"
        raise unfit(folder / "scheduler", found, f"{', '.join(_SCHEDULES)} with {', '.join(_PREDICTIONS)}")

    class Latents(comfy.latent_formats.SD15):  # type: ignore[misc]
        latent_channels = unet["in_channels"]

        def __init__(self) -> None:
            super().__init__(scale)
            self.taesd_decoder_name = None
            if self.latent_channels != 4:
                self.latent_rgb_factors = None

    class Config(comfy.supported_models_base.BASE):  # type: ignore[misc]
        unet_extra_config: dict[str, Any] = {}  # noqa: RUF012 - the host's class attribute
        latent_format = Latents
        sampling_settings = {  # noqa: RUF012
            "beta_schedule": schedule,
            "linear_start": scheduler.get("beta_start", 0.0001),
            "linear_end": scheduler.get("beta_end", 0.02),
            "timesteps": scheduler.get("num_train_timesteps", 1000),
            "zsnr": scheduler.get("rescale_betas_zero_snr", False),
        }
        prediction: Any = None

    config = Config(unet)
    config.prediction = prediction
    return config


def _per_level(value: int | list[int], levels: int) -> list[int]:
    return [value] * levels if isinstance(value, int) else list(value)


def unfit(where: Path, found: str, expected: str) -> FileFormatError:
    return FileFormatError(
        f"Cannot load {where.parent.name}/{where.name} into ComfyUI: found {found}; expected {expected}. "
        "Use ComfyUI's own loaders for this model."
    )
