"""Which images to show at once, to have the best of them picked or all put in order.

One image after the other, then exchanged one at a time, by what an answer about the set would teach (`gain_beside`).
Among thousands of candidates that is done twice: for all of them by the few digits of `shortlist.py`, and exactly for
those that came near to being chosen there and some others.

Shapes: M candidates, D width, k images of a set, C candidates looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..errors import ShapeError
from .arrays import Matrix, require_finite, to_array, to_matrix
from .bradley_terry import BradleyTerry
from .gain import gain_beside
from .likelihood import Array
from .pairs import ALIKE, HasModel, Indices, choose_pair, model_of, rough_look, usual_square
from .shortlist import Rough, promising_pairs

__all__ = ["choose_set"]

_NEAR = 48  # best ones of each step by few digits that are looked at exactly
_OTHERS = 128  # and others by chance
_SPREAD_OUT = 512  # looked at where nothing was learned, or where images should be far apart, too
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
    if model is not None:
        to_matrix("candidates", vectors, model.n_features_in_)
    numbers = generator or torch.Generator()
    if generator is None and model is None:
        numbers.seed()
    apart = {(min(i, j), max(i, j)) for i, j in exclude or () if i != j}
    near, start, chance = _near(model, vectors, size, apart, numbers)
    places = _looked_at(len(vectors), near, _SPREAD_OUT if diversity else len(near) + chance, numbers)
    looked_at = _Candidates.of(model, vectors[places].astype(np.float64), numbers)
    looked_at.keep_apart(places, apart)
    chosen = _best_set(lambda others: looked_at.worth(others, diversity), range(start), size, _ROUNDS)
    return tuple(int(places[k]) for k in chosen)


def _near(
    model: BradleyTerry | None,
    vectors: Array,
    size: int,
    apart: Collection[tuple[int, int]],
    generator: torch.Generator,
) -> tuple[list[int], int, int]:
    """Candidates to look at, how many of them to start with, and how many others by chance."""
    rough, numbers = (None, None) if model is None else rough_look(model, vectors, generator)
    if rough is not None and numbers is not None:
        return _near_by_few_digits(rough, size, apart, numbers), size, _OTHERS
    every = len(vectors) * (len(vectors) - 1) // 2
    start = choose_pair(model, vectors, exclude=apart if len(apart) < every else (), generator=generator)
    return list(start), 2, _SPREAD_OUT


def _near_by_few_digits(
    rough: Rough, size: int, apart: Collection[tuple[int, int]], generator: np.random.Generator
) -> list[int]:
    """The best set by few digits, then all candidates that came near to being chosen into it."""
    utility, spread = rough.utility.astype(np.float64), rough.spread
    own = np.einsum("ij,ij->i", spread, spread).astype(np.float64)
    not_with: dict[int, list[int]] = {}
    for i, j in apart:
        not_with.setdefault(i, []).append(j)
        not_with.setdefault(j, []).append(i)
    near: dict[int, None] = {}

    def worth(others: list[int]) -> Array:
        gain = gain_beside(utility, own, (spread @ spread[others].T).astype(np.float64), others)
        gain[[*others, *(k for other in others for k in not_with.get(other, ()) if 0 <= k < len(gain))]] = -np.inf
        near.update(dict.fromkeys(np.argpartition(-gain, _NEAR)[:_NEAR].tolist()))
        return gain

    start = promising_pairs(rough, generator)[0].tolist()
    return list(dict.fromkeys([*_best_set(worth, start, size, 1), *near]))


def _looked_at(count: int, near: Sequence[int], most: int, generator: torch.Generator) -> Indices:
    """(C,) candidates: those near, then others by chance, up to so many."""
    known = set(near)
    others = [k for k in torch.randperm(count, generator=generator).tolist() if k not in known]
    return np.array([*near, *others[: max(0, most - len(near))]])


def _best_set(worth: Callable[[list[int]], Array], start: Iterable[int], size: int, rounds: int) -> list[int]:
    """From two or more on; `worth` says how good each candidate is beside others."""
    chosen = list(start)
    while len(chosen) < size:
        chosen.append(int(np.argmax(worth(chosen))))
    for _ in range(rounds):
        for _ in range(size):  # the one that came first makes room for the best beside the others, maybe itself
            others = chosen[1:]
            chosen = [*others, int(np.argmax(worth(others)))]
    return chosen


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
        gain = gain_beside(self.utility, np.diag(self.covariance), self.covariance[:, others], others)
        worth = (1.0 - diversity) * gain / max(float(gain.max()), 1e-12)
        if diversity:
            spread = self.distance[:, others].min(axis=1)
            worth += diversity * spread / max(float(spread.max()), 1e-12)
        worth -= self.penalty[:, others].sum(axis=1)
        worth[others] = -np.inf
        return np.asarray(worth)
