"""What a training may be asked for, by name; light, so that a name is refused before PyTorch is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["BETAS", "FROZEN", "MAPO_VARIANTS", "OPTIMIZERS", "PRECISIONS"]

BETAS: Mapping[str, float] = MappingProxyType(
    {
        "sft": 0.0,
        "dpo": 5000.0,
        "cdpo": 5000.0,
        "rdpo": 5000.0,
        "ipo": 5000.0,
        "kto": 2000.0,
        "mapo": 0.1,
        "rpo": 5000.0,
        "adaptive_dpo": 2000.0,
    }
)
"""The losses, each with its paper's beta, in this room's units."""
MAPO_VARIANTS = ("code", "paper_exponent", "paper_prefactor")
OPTIMIZERS = ("adamw", "adamw8bit", "adafactor")
PRECISIONS = ("float32", "bfloat16")
FROZEN = ("int8",)
