"""Whether a PPD's training will fit into memory, known before anything of the model is loaded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..errors import PPDError
from ..finetune.activations import UNET_CLASS, class_of
from ..finetune.memory import Need, denoiser_of, free_bytes, need_of
from ..finetune.settings import TrainSettings
from ..places import typed_path
from .denoisers import layers_in
from .layers import layers_of, width_of
from .settings import PPDSettings

__all__ = ["least_of_others", "need_of_ppd", "require_room"]

_PARTS = ("transformer", "prior", "prior_prior")  # folders of the denoisers that `load_base` knows beside UNets
_OF_EACH = 16  # bytes: a weight, its gradient, AdamW's two moments


def need_of_ppd(config: dict[str, Any], settings: PPDSettings, size: int, device: str, others: int = 0) -> Need:
    """Estimate what a training takes: a small LoRA's, whose activations are as many, with the user attention's weights.

    Args:
        config: Of diffusers' UNet2DConditionModel.
        settings: How it is trained.
        size: Side of the pictures in pixels.
        device: "cuda" or "cpu".
        others: Bytes of the pipeline's other parts that are in the same memory.
    """
    from diffusers import UNet2DConditionModel

    alike = TrainSettings(
        loss="dpo",
        rank=1,
        batch=settings.batch,
        precision=settings.precision,
        checkpointing=settings.gradient_checkpointing,
    )
    need = need_of(config, alike, size, device, others)
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(dict(config))
    trained = 2 * width_of(unet) * sum(layer.inner for layer in layers_of(unet))
    return replace(need, trained=_OF_EACH * trained)


def least_of_others(model: str | Path, settings: PPDSettings) -> Need | None:
    """What a training of Stable Cascade, SD3 or Flux takes at least: model and user attention, without activations.

    Args:
        model: As `load_base` takes it; of anything but a folder of those nothing is known: None.
        settings: How it is trained.
    """
    import diffusers

    config = next(
        (file for file in (typed_path(model) / part / "config.json" for part in _PARTS) if file.is_file()), None
    )
    if config is None:
        return None
    try:
        said = json.loads(config.read_text(encoding="utf-8"))
        with torch.device("meta"):
            denoiser = getattr(diffusers, said["_class_name"]).from_config(said)
        layers, width = layers_in(denoiser)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, PPDError):
        return None  # loading says better what is the matter
    of_each = 2 if settings.precision == "bfloat16" else 4
    weights = of_each * sum(weight.numel() for weight in denoiser.parameters())
    return Need(weights, _OF_EACH * 2 * width * sum(layer.inner for layer in layers), 0, 0)


def require_room(model: str | Path, settings: PPDSettings, device: torch.device) -> None:
    """Refuse a training that won't fit.

    Raises:
        PPDError: it won't; it says what would.
    """
    found, free = denoiser_of(model), free_bytes(device)
    if found is None or free is None or class_of(found[0]) != UNET_CLASS:
        least = least_of_others(model, settings)
        if least is not None and free is not None and least.total > free:
            raise PPDError(
                f"Cannot train a PPD: it takes more than {least.total / 1e9:.1f} GB of memory (model "
                f"{least.weights / 1e9:.1f}, user attention {least.trained / 1e9:.1f}); found {free / 1e9:.1f} GB free."
                " Train where there is more memory."
            )
        return
    config, others = found
    size = settings.size or 8 * int(config.get("sample_size") or 64)
    kind = "cuda" if device.type == "cuda" else "cpu"
    others = others if kind == "cpu" else 0
    need = need_of_ppd(config, settings, size, kind, others)
    if need.total <= free:
        return
    advice = "Nothing smaller fits either: train where there is more memory."
    for batch in [settings.batch >> half for half in range(settings.batch.bit_length())]:
        smaller = replace(
            settings,
            batch=batch,
            accumulate=settings.accumulate * settings.batch // batch,
            gradient_checkpointing=True,
        )
        if need_of_ppd(config, smaller, size, kind, others).total <= free:
            advice = f"It fits with gradient checkpointing, batch {batch} and accumulate {smaller.accumulate}."
            break
    raise PPDError(
        f"Cannot train a PPD: it takes about {need.total / 1e9:.1f} GB of memory (model {need.weights / 1e9:.1f}, user "
        f"attention {need.trained / 1e9:.1f}, activations {need.activations / 1e9:.1f}); found {free / 1e9:.1f} GB "
        f"free. {advice}"
    )
