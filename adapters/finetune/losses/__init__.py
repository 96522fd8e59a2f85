"""Losses that turn comparisons into gradients: one pure function a paper, no model inside.

    loss = LOSSES[name](PairErrors(chosen, rejected, ref_chosen, ref_rejected), beta=BETAS[name])
    loss.loss.mean().backward()

How they hang together, each held by a test: cdpo and rdpo without flips, rpo with each pair alone, adaptive_dpo without
doubts and kto's margin are dpo; mapo without its pull is sft.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from ..names import BETAS, MAPO_VARIANTS
from .adaptive_dpo import Minority, adaptive_dpo, minority
from .cdpo import cdpo
from .dpo import dpo
from .errors_of_pairs import PairErrors, PairLoss
from .ipo import ipo
from .kto import kto
from .mapo import mapo
from .rdpo import rdpo
from .rpo import contrast_weights, pair_embedding, rpo
from .sft import sft

__all__ = [
    "BETAS",
    "LOSSES",
    "MAPO_VARIANTS",
    "REFERENCE_FREE",
    "Minority",
    "PairErrors",
    "PairLoss",
    "adaptive_dpo",
    "cdpo",
    "contrast_weights",
    "dpo",
    "ipo",
    "kto",
    "mapo",
    "minority",
    "pair_embedding",
    "rdpo",
    "rpo",
    "sft",
]

LOSSES: Mapping[str, Callable[..., PairLoss]] = MappingProxyType(
    {
        "sft": sft,
        "dpo": dpo,
        "cdpo": cdpo,
        "rdpo": rdpo,
        "ipo": ipo,
        "kto": kto,
        "mapo": mapo,
        "rpo": rpo,
        "adaptive_dpo": adaptive_dpo,
    }
)
REFERENCE_FREE = frozenset({"sft", "mapo"})
"""Losses that need no reference model."""
