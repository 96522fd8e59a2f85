"""How varied pictures are, in words; and which of many differ most."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ...adapters.taste import diversity

__all__ = ["beside_plain", "in_words", "most_different", "variety"]

# From this share of the variety that there could be.
WORDS = ((0.85, "very varied"), (0.65, "varied"), (0.45, "rather alike"), (0.2, "much alike"), (0.0, "nearly the same"))
# Of pictures with a taste, from this share of the variety of those without.
BESIDE = (
    (0.9, "as varied as"),
    (0.7, "a little less varied than"),
    (0.4, "clearly less varied than"),
    (0.0, "far less varied than"),
)


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


def beside_plain(share: float) -> str:
    """Return words for the share of their variety that pictures keep with a taste, in [0, 1]."""
    words = next(word for least, word in BESIDE if share >= least)
    return f"With taste they are {words} without ({100 * share:.0f}\u00a0%)"


def most_different(vectors: torch.Tensor, count: int) -> tuple[int, ...]:
    """Return so many of the rows, the first one among them, that lie far from each other.

    Each next one is the farthest from those chosen (Gonzalez 1985: at most twice as near as the best choice).

    Args:
        vectors: (M, D), M >= count >= 1.
    """
    distance = torch.cdist(vectors.float(), vectors.float())
    chosen = [0]
    while len(chosen) < count:
        nearest = distance[:, chosen].amin(dim=1)
        nearest[chosen] = -1.0
        chosen.append(int(nearest.argmax()))
    return tuple(sorted(chosen))
