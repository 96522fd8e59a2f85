"""Pictures on a plane, for looking at: to the right what the taste likes, upwards what else they differ in most.

Shapes: M pictures, D width.
"""

from __future__ import annotations

import numpy as np

from ..errors import ShapeError
from .arrays import Matrix, require_finite, to_array, to_matrix
from .likelihood import Array

__all__ = ["strip", "taste_map"]


def taste_map(vectors: Matrix, weights: Matrix) -> Array:
    """Return (M, 2) coordinates of pictures, each axis centred.

    x: utility, in nats, so the taste points to the right. y: along the direction in which the pictures differ most
    once the taste's own direction is taken out (first principal component), in units of the vectors. Its sign is such
    that its largest part points up, so that the same pictures give the same map. Without a taste (weights of 0) x is
    0 everywhere.

    Args:
        vectors: (M, D).
        weights: (D,) of a taste.

    Raises:
        ShapeError: NaN, infinity, or widths that differ.
    """
    found = to_array("weights", weights)
    if found.ndim != 1:
        raise ShapeError(f"Cannot draw a map: `weights` have shape {found.shape}; expected (D,), those of one taste.")
    taste = require_finite("weights", found).astype(np.float64)
    matrix = require_finite("vectors", to_matrix("vectors", vectors, len(taste))).astype(np.float64)
    if not len(matrix):
        return np.zeros((0, 2))
    centred = matrix - matrix.mean(axis=0)
    length = float(np.linalg.norm(taste))
    direction = taste / length if length > 0.0 else taste
    rest = centred - np.outer(centred @ direction, direction)
    main = np.linalg.svd(rest, full_matrices=False)[2][0]
    main = main * (1.0 if main[np.argmax(np.abs(main))] >= 0.0 else -1.0)
    return np.stack([centred @ taste, rest @ main], axis=1)


def strip(utility: Matrix, count: int = 7) -> tuple[int, ...]:
    """Return which pictures to show from 'not me' to 'me': indices, lowest utility first, evenly spaced by rank.

    The lowest and the highest are among them; fewer than `count` where there are not as many pictures.

    Args:
        utility: (M,) of pictures, best of one prompt.
        count: how many to show, 1 or more; one is the highest.

    Raises:
        ShapeError: NaN, not (M,), or a count below 1.
    """
    values = to_array("utility", utility)
    if values.ndim != 1 or count < 1:
        raise ShapeError(
            f"Cannot lay out a strip: found utilities of shape {values.shape} and count {count}; expected (M,) and 1 "
            "or more."
        )
    order = np.argsort(require_finite("utility", values), kind="stable")
    if count == 1:
        return tuple(int(i) for i in order[-1:])
    places = np.linspace(0, max(len(order) - 1, 0), min(count, len(order)))
    return tuple(int(order[round(place)]) for place in places)
