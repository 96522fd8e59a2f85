"""How varied pictures are, in words."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ...adapters.taste import diversity

__all__ = ["in_words", "variety"]

# From this share of the variety that there could be.
WORDS = ((0.85, "very varied"), (0.65, "varied"), (0.45, "rather alike"), (0.2, "much alike"), (0.0, "nearly the same"))


def variety(vectors: Sequence[torch.Tensor], others: Sequence[torch.Tensor]) -> float:
    """Return how varied pictures are beside others, in [0, 1]; 1 where there is too little to compare.

    Args:
        vectors: (D,) each, of the pictures.
        others: (D,) each, of pictures that are as varied as it gets.
    """
    if len(vectors) < 2 or len(others) < 2:
        return 1.0
    return diversity(torch.stack(list(vectors)), torch.stack(list(others)))


def in_words(share: float) -> str:
    """Return words for a share of [0, 1]."""
    return next(word for least, word in WORDS if share >= least)
