"""The prior of who knows how people are made, but nothing of this one: what knowing others could be worth at most.

Shapes: Q other people, M pictures, D joint width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..taste.covariance import Stretch
from ..taste.observed import Observed
from ..taste.prior import Prior, with_cut
from ._tables import Array
from ._world import World

__all__ = ["PEOPLE", "Exact", "exact_prior"]

PEOPLE = 400  # others whose true utilities say what people care for
_LEAST = 1e-9  # of the largest variance: below is rounding


@dataclass(frozen=True)
class Exact:
    """The same prior after any answers; of graded ones, they choose the cut only."""

    prior: Prior

    def __call__(self, observed: Observed) -> Prior:
        """The prior after these answers."""
        return with_cut(self.prior, observed, stronger=(1.0,)) if observed.asked_how_much else self.prior


def exact_prior(others: World) -> Exact:
    """Mean and covariance of the weights that come nearest to each of these people's true utility.

    Args:
        others: many people, none of whom is tested.
    """
    vectors = others.vectors - others.vectors.mean(axis=0)
    utility = others.utility - others.utility.mean(axis=1, keepdims=True)
    weights: Array = np.linalg.lstsq(vectors, utility.T, rcond=None)[0].T
    variances, directions = np.linalg.eigh(np.cov(weights, rowvar=False))
    largest = float(variances.max())
    stretch = Stretch(largest, directions.T, np.maximum(variances / largest, _LEAST))
    return Exact(Prior(largest, stretch, weights.mean(axis=0)))
