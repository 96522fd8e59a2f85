"""Which optimiser moves the weights."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..errors import FineTuneError
from .names import OPTIMIZERS

__all__ = ["make_optimizer"]

_DECAY = 0.01  # weight decay of all the papers


def make_optimizer(
    name: str, parameters: Sequence[nn.Parameter], learning_rate: float, device: torch.device
) -> torch.optim.Optimizer:
    """Return an optimiser over float32 parameters.

    Args:
        name: "adamw" (torch's; fused into one kernel on a GPU), "adamw8bit" (bitsandbytes': moments in a byte each) or
            "adafactor" (transformers', as Diffusion-DPO trains SDXL: a row and a column of moments for a matrix, no
            scaling by the parameters, no rate of its own).
        parameters: What is trained.
        learning_rate: At full rate.
        device: Where the parameters are.

    Raises:
        FineTuneError: another name, or its library is not installed or has no build for this device.
    """
    if name == "adamw":
        fused = device.type == "cuda"
        return torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=_DECAY, fused=fused)
    if name == "adamw8bit":
        kind = _taken("bitsandbytes", "optim.AdamW8bit", "pip install bitsandbytes")
        small: torch.optim.Optimizer = kind(parameters, lr=learning_rate, weight_decay=_DECAY)
        return small
    if name == "adafactor":
        kind = _taken("transformers", "Adafactor", "pip install transformers")
        fixed = {"scale_parameter": False, "relative_step": False, "warmup_init": False, "clip_threshold": 1.0}
        factored: torch.optim.Optimizer = kind(parameters, lr=learning_rate, weight_decay=_DECAY, **fixed)
        return factored
    raise FineTuneError(f"Cannot train: optimizer {name!r}; expected one of {', '.join(OPTIMIZERS)}.")


def _taken(library: str, path: str, advice: str) -> Any:
    try:
        found: Any = importlib.import_module(library)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, RuntimeError, OSError) as error:
        raise FineTuneError(
            f"Cannot train with this optimiser: {library} is not here or does not work ({error}); expected it "
            f"installed. Run `{advice}`, or choose the optimiser adamw."
        ) from error
    return found
