"""How alike people's tastes are: on how many pairs of pictures they would choose the same one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import EncoderMismatchError
from .arrays import Matrix
from .likelihood import Array
from .person import Taste

__all__ = ["agreement"]


def agreement(tastes: Sequence[Taste], vectors: Matrix) -> Array:
    """Return for each two tastes the share of pairs of pictures of which both prefer the same one.

    0.5 is what two strangers have, 1 the same order of all pictures, 0 the opposite order. A pair that one of them
    finds equal counts half.

    Args:
        tastes: P of them, all of one encoder.
        vectors: (M, D) pictures; all M (M - 1) / 2 pairs are looked at.

    Returns:
        (P, P), symmetric, in [0, 1]; all 0.5 where there are no two pictures.

    Raises:
        EncoderMismatchError: the tastes are of different encoders.
        ShapeError: the pictures are.
    """
    if len({taste.encoder for taste in tastes}) > 1:
        names = ", ".join(sorted({taste.encoder_name for taste in tastes}))
        raise EncoderMismatchError(f"Cannot compare tastes of different encoders ({names}). Learn them with one.")
    if not len(tastes):
        return np.zeros((0, 0))
    utility = np.stack([taste.utility(vectors).double().numpy() for taste in tastes])
    first, second = np.triu_indices(utility.shape[1], 1)
    if not len(first):
        return np.full((len(tastes), len(tastes)), 0.5)
    prefers = np.sign(utility[:, first] - utility[:, second])
    return np.asarray(0.5 + 0.5 * (prefers @ prefers.T) / len(first))
