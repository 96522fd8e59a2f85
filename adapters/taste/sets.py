"""Which images to show at once, to have the best of them picked or all put in order.

What an answer about k images takes from what is unknown, in nats, by the volume of the posterior (D-optimal):

    gain = 1/2 log det(I + H K),   H = diag(p) - p p'

with K the covariance of the k utilities and p how probably each is picked as the best.

Shapes: M candidates, D width, k images of a set, C candidates looked at.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch

from ..errors import ShapeError
from .arrays import Matrix, require_finite, to_array, to_matrix
from .bradley_terry import BradleyTerry
from .likelihood import Array
from .pairs import ALIKE, HasModel, Indices, choose_pair, model_of, usual_square

__all__ = ["choose_set"]

_LOOKED_AT = 600  # candidates, among them the best pair: 1,500 make sets hardly better, 300 make worse ones
_ROUNDS = 2


def choose_set(
    taste: BradleyTerry | HasModel | None,
    candidates: Matrix,
    size: int = 4,
    exclude: Collection[tuple[int, int]] | None = None,
    generator: torch.Generator | None = None,
    diversity: float = 0.0,
) -> tuple[int, ...]:
    """Return the candidates to show together, in no order that means anything.

    Starts with the pair of `choose_pair`, adds what teaches most beside those chosen, and then exchanges one at a
    time for a better one. No two of a set are the same picture or near-duplicates while there are others.

    Args:
        taste: A fitted `BradleyTerry`, a `Taste`, or None: nothing learned yet, any set.
        candidates: (M, D) vectors of the images to choose among, M >= size.
        size: Images in the set, 2 or more.
        exclude: Pairs of indices that should not be in a set together, where there is a way round it.
        generator: For which of thousands of candidates are looked at, and for a taste that has not learned. Without
            one, the former are always the same and the latter differ from call to call.
        diversity: In [0, 1]. 0: what teaches most. 1: images as far from each other as they come, whatever they
            teach. Between: a mean of both, each relative to the best there is.

    Raises:
        ShapeError: fewer candidates than the set has images, a diversity out of range, NaN, or a wrong width.
    """
    vectors = require_finite("candidates", to_matrix("candidates", candidates))
    if not 2 <= size <= len(vectors):
        raise ShapeError(
            f"Cannot choose a set: found {len(vectors)} candidate(s) for a set of {size}; expected two or more, and as "
            "many candidates as the set has images. Add images."
        )
    if not 0.0 <= diversity <= 1.0:
        raise ShapeError(f"Cannot choose a set: diversity {diversity}; expected a number from 0 to 1.")
    model = model_of(taste)
    numbers = generator or torch.Generator()
    if generator is None and model is None:
        numbers.seed()
    apart_by_wish = {(min(i, j), max(i, j)) for i, j in exclude or () if i != j}
    every = len(vectors) * (len(vectors) - 1) // 2
    start = choose_pair(model, vectors, exclude=apart_by_wish if len(apart_by_wish) < every else (), generator=numbers)
    places = _looked_at(len(vectors), start, numbers)
    looked_at = _Candidates.of(model, vectors[places].astype(np.float64), numbers)
    looked_at.keep_apart(places, apart_by_wish)
    return tuple(int(places[k]) for k in _best_set(looked_at, size, diversity))


def _looked_at(count: int, start: tuple[int, int], generator: torch.Generator) -> Indices:
    """(C,) candidates: the two to start with, then others by chance."""
    others = [k for k in torch.randperm(count, generator=generator).tolist() if k not in start]
    return np.array([*start, *others[: _LOOKED_AT - 2]])


@dataclass(frozen=True)
class _Candidates:
    """What is known of those looked at.

    Attributes:
        utility: (C,) nats. covariance: (C, C); with nothing learned a diagonal of random numbers.
        distance: (C, C) in units of the usual one. penalty: (C, C) above 0 for two that should not be in one set.
    """

    utility: Array
    covariance: Array
    distance: Array
    penalty: Array

    @classmethod
    def of(cls, model: BradleyTerry | None, vectors: Array, generator: torch.Generator) -> _Candidates:
        if model is None:
            utility: Array = np.zeros(len(vectors))
            covariance: Array = np.diag(torch.rand(len(vectors), generator=generator).double().numpy())
        else:
            utility = to_array("candidates", model.utility(vectors))
            covariance = to_array("candidates", model.utility_covariance(vectors))
        lengths = np.einsum("ij,ij->i", vectors, vectors)
        square = np.maximum(lengths[:, None] + lengths[None, :] - 2.0 * (vectors @ vectors.T), 0.0)
        distance = np.sqrt(square * (1.0 / max(usual_square(vectors), 1e-300)))
        penalty = np.where(distance < ALIKE, 10.0, 0.0)
        penalty[distance < 1e-6] = 20.0
        return cls(utility, covariance, distance, penalty)

    def keep_apart(self, places: Indices, pairs: Collection[tuple[int, int]]) -> None:
        """Penalise pairs of candidates, given by their indices among all."""
        where = {int(place): k for k, place in enumerate(places)}
        for i, j in pairs:
            if i in where and j in where:
                self.penalty[where[i], where[j]] = self.penalty[where[j], where[i]] = 100.0

    def worth(self, others: list[int], diversity: float) -> Array:
        """(C,) of adding each candidate to `others`."""
        count = len(self.utility)
        sets = np.concatenate([np.tile(others, (count, 1)), np.arange(count)[:, None]], axis=1)
        spread = self.distance[:, others].min(axis=1)
        gain = set_gain(self.utility[sets], self.covariance[sets[:, :, None], sets[:, None, :]])
        worth = (1.0 - diversity) * gain / max(float(gain.max()), 1e-12)
        worth += diversity * spread / max(float(spread.max()), 1e-12)
        worth -= self.penalty[:, others].sum(axis=1)
        worth[others] = -np.inf
        return np.asarray(worth)


def set_gain(utility: Array, covariance: Array) -> Array:
    """(C,) nats that an answer about a set takes from the posterior's volume; utility (C, k), covariance (C, k, k)."""
    size = utility.shape[1]
    centred = covariance - covariance.mean(axis=1, keepdims=True)
    centred = centred - centred.mean(axis=2, keepdims=True)
    own = np.einsum("cii->ci", centred)
    # The mean answer, not the answer of the mean: as sigmoid(z / sqrt(1 + pi / 8 variance)) for a pair.
    damped = (utility - utility.mean(axis=1, keepdims=True)) / np.sqrt(1.0 + (np.pi / 8.0) * np.maximum(own, 0.0))
    share = np.exp(damped - damped.max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    information = share[:, :, None] * (np.eye(size) - share[:, None, :])
    return np.asarray(0.5 * np.linalg.slogdet(np.eye(size) + information @ centred)[1])


def _best_set(candidates: _Candidates, size: int, diversity: float) -> list[int]:
    chosen = [0, 1]
    while len(chosen) < size:
        chosen.append(int(np.argmax(candidates.worth(chosen, diversity))))
    for _ in range(_ROUNDS):
        for _ in range(size):  # the one that came first makes room for the best beside the others, maybe itself
            others = chosen[1:]
            chosen = [*others, int(np.argmax(candidates.worth(others, diversity)))]
    return chosen
