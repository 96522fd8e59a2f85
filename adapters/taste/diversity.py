"""How varied a set of pictures is: what was shown, or what was generated.

Shapes: M pictures, D width.
"""

from __future__ import annotations

import numpy as np

from .arrays import Matrix, require_finite, to_matrix
from .likelihood import Array

__all__ = ["diversity"]


def diversity(vectors: Matrix, reference: Matrix | None = None) -> float:
    """Return how varied pictures are, in [0, 1]: the mean cosine distance of two of them.

    0: all the same picture (or fewer than two). Without a reference, 1: at right angles to each other, or more. With
    one, 1: as varied as the reference, or more; that reads better, as most encoders' vectors are all rather alike.

    Args:
        vectors: (M, D), of any length but 0; only their directions count.
        reference: (N, D) pictures that are as varied as it gets, such as all of the store.

    Raises:
        ShapeError: NaN, infinity or another width.
    """
    own = _mean_distance("vectors", vectors)
    if reference is None:
        return min(own, 1.0)
    width = to_matrix("vectors", vectors).shape[1] or None
    most = _mean_distance("reference", to_matrix("reference", reference, width))
    return min(own / most, 1.0) if most > 0.0 else min(own, 1.0)


def _mean_distance(name: str, vectors: Matrix) -> float:
    """Mean of 1 - cosine over all pairs, from the length of the sum: mean cosine = (|sum|^2 - M) / (M (M - 1))."""
    matrix: Array = require_finite(name, to_matrix(name, vectors)).astype(np.float64)
    length = np.linalg.norm(matrix, axis=1, keepdims=True)
    unit = (matrix / np.where(length > 0.0, length, 1.0))[length[:, 0] > 0.0]
    count = len(unit)
    if count < 2:
        return 0.0
    total = unit.sum(axis=0)
    distance = 1.0 - float(total @ total - count) / (count * (count - 1))
    return distance if distance > 1e-12 else 0.0
