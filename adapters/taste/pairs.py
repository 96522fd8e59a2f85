"""Which two images to ask about next.

Shapes: M candidates, D width, P pairs.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from ..errors import ShapeError
from .arrays import Matrix, require_finite, to_array, to_matrix
from .bradley_terry import BradleyTerry
from .gain import information_gain
from .likelihood import Array
from .shortlist import Rough, promising_pairs

Indices = npt.NDArray[np.integer]

STRATEGIES = ("information_gain", "random", "uncertainty")
ALIKE = 0.1  # of the usual distance between two candidates: below, it is the same picture for whoever compares them

_ALL_PAIRS = 300  # candidates, up to which every pair is looked at
_RATED = 128  # of the pairs that seem best by few digits
_NEIGHBOURS = 8  # in order of utility, for "uncertainty"
_TRIES = 1000  # at a random pair, before the pairs that are left are counted
_SOME = 1024  # pairs: more are not looked at one by one
_SAMPLE = 256  # candidates, for what is usual


class HasModel(Protocol):
    """A `Taste`, as far as asking goes."""

    @property
    def model(self) -> BradleyTerry:
        """Its fitted model."""


def choose_pair(
    taste: BradleyTerry | HasModel | None,
    candidates: Matrix,
    strategy: str = "information_gain",
    exclude: Collection[tuple[int, int]] | None = None,
    generator: torch.Generator | None = None,
) -> tuple[int, int]:
    """Return the pair (i, j), i < j, of candidates to show next. Which one goes left is for the caller to toss.

    - "information_gain": the answer from which most is expected to be learned about the weights (mutual information
      of answer and weights): sides whose difference is uncertain, not those that are merely equally good.
    - "uncertainty": the answer that is hardest to predict (probability nearest to 1/2).
    - "random": any pair, all equally likely. Also what a taste that has not learned yet gets.

    Two equal pictures are returned only where nothing else is left; so are near-duplicates (closer than `ALIKE` of the
    usual distance between two candidates), but by "random", which may come upon them.

    Among thousands of candidates, "information_gain" looks at the pairs of `shortlist.py` and takes the best of them;
    memory grows with M D, not with M^2.

    Args:
        taste: A fitted `BradleyTerry`, a `Taste`, or None.
        candidates: (M, D) vectors of the images to choose among, M >= 2.
        strategy: one of `STRATEGIES`.
        exclude: Pairs of indices not to return, either way round; others' indices do no harm.
        generator: For "random", where each call is different without one, and for the shortlist, which is always the
            same without one.

    Raises:
        ShapeError: fewer than two candidates, all pairs excluded, NaN, or a width that the taste doesn't have.

    Source: Houlsby et al. 2011, BALD, arXiv:1112.5745, equation 2. Differs: logistic answers; entropy in closed form.
    """
    if strategy not in STRATEGIES:
        raise ShapeError(f"Cannot choose a pair: strategy {strategy!r}; expected one of {', '.join(STRATEGIES)}.")
    vectors = require_finite("candidates", to_matrix("candidates", candidates))
    excluded = excluded_keys(len(vectors), exclude or ())
    model = model_of(taste)
    if strategy == "random" or model is None:
        return _random(vectors, excluded, generator)
    to_matrix("candidates", vectors, model.n_features_in_)
    best = (
        _most_even(model, vectors, excluded)
        if strategy == "uncertainty"
        else most_telling(model, vectors, excluded, *rough_look(model, vectors, generator))
    )
    return _random(vectors, excluded, generator) if best is None else best


def rough_look(
    model: BradleyTerry, vectors: Array, generator: torch.Generator | None
) -> tuple[Rough | None, np.random.Generator]:
    """What few digits tell of many candidates, None of a few; and the numbers to go on with."""
    numbers = np.random.default_rng(0 if generator is None else _seed(generator))
    return (None if len(vectors) <= _ALL_PAIRS else Rough.of(model, vectors, numbers)), numbers


def most_telling(
    model: BradleyTerry, vectors: Array, excluded: Any, rough: Rough | None, numbers: np.random.Generator
) -> tuple[int, int] | None:
    """The pair with the highest information gain of all, or among thousands nearly; None where all are excluded.

    Args:
        model: fitted.
        vectors: (M, D) of the candidates.
        excluded: sorted keys of the pairs that may not be asked.
        rough, numbers: of `rough_look`.
    """
    pairs = _all_pairs(len(vectors)) if rough is None else promising_pairs(rough, numbers)
    pairs = pairs[~np.isin(_keys(pairs, len(vectors)), excluded)]
    pairs = pairs if rough is None else pairs[:_RATED]
    return _best_different(vectors, pairs, information_gain(*_beliefs(model, vectors, pairs)))


def _most_even(model: BradleyTerry, vectors: Array, excluded: Any) -> tuple[int, int] | None:
    """The pair whose answer is nearest to a coin's."""
    utility = vectors @ to_array("weights", model.weights_).astype(vectors.dtype)
    pairs = _all_pairs(len(vectors)) if len(vectors) <= _ALL_PAIRS else _nearest(utility)
    pairs = pairs[~np.isin(_keys(pairs, len(vectors)), excluded)]
    return _best_different(vectors, pairs, -np.abs(utility[pairs[:, 0]] - utility[pairs[:, 1]]))


def model_of(taste: BradleyTerry | HasModel | None) -> BradleyTerry | None:
    """Its fitted model; None for nobody's taste, or one that has not learned yet."""
    model = taste if isinstance(taste, BradleyTerry) or taste is None else taste.model
    return model if hasattr(model, "weights_") else None


def usual_square(vectors: Array) -> float:
    """Mean squared distance between two of these vectors (M, D), by `_SAMPLE` of them."""
    some = vectors[:: max(1, len(vectors) // _SAMPLE)].astype(np.float64)
    return 2.0 * float(((some - some.mean(axis=0)) ** 2).sum()) / max(len(some) - 1, 1)


def _beliefs(model: BradleyTerry, vectors: Array, pairs: Indices) -> tuple[Array, Array]:
    """(P,) log-odds and their variance."""
    used, places = np.unique(pairs, return_inverse=True)
    first, second = places.reshape(pairs.shape).T
    some = vectors[used]
    utility = to_array("candidates", model.utility(some))
    covariance = to_array("candidates", model.utility_covariance(some))
    own = np.diag(covariance)
    variance = np.maximum(own[first] + own[second] - 2.0 * covariance[first, second], 0.0)
    return utility[first] - utility[second], np.asarray(variance)


def _best_different(vectors: Array, pairs: Indices, score: Array) -> tuple[int, int] | None:
    """The first pair, best score first, of two different pictures; the best of two near-duplicates; or None."""
    least = ALIKE * ALIKE * usual_square(vectors)
    near = None
    order = np.argsort(-score, kind="stable")
    for start in range(0, len(order), 64):
        some = pairs[order[start : start + 64]]
        difference = vectors[some[:, 0]] - vectors[some[:, 1]]
        square = np.einsum("ij,ij->i", difference, difference)
        if (different := np.flatnonzero(square > least)).size:
            i, j = some[different[0]]
            return int(i), int(j)
        if near is None and (unequal := np.flatnonzero(square > 0.0)).size:
            near = tuple(int(k) for k in some[unequal[0]])
    return near  # type: ignore[return-value]


def _all_pairs(count: int) -> Indices:
    """(P, 2) i < j."""
    return np.stack(np.triu_indices(count, 1), axis=1)


def _nearest(utility: Array) -> Indices:
    """(P, 2) pairs that are next to each other in order of utility, or nearly."""
    order = np.argsort(utility, kind="stable")
    steps = range(1, min(_NEIGHBOURS, len(order) - 1) + 1)
    pairs = np.concatenate([np.stack([order[:-step], order[step:]], axis=1) for step in steps])
    return np.sort(pairs, axis=1)


def _keys(pairs: Indices, count: int) -> Any:
    """One number for each pair i < j."""
    return pairs[:, 0].astype(np.int64) * count + pairs[:, 1]


def excluded_keys(count: int, exclude: Collection[tuple[int, int]]) -> Any:
    """(E,) sorted keys of the pairs that may not be asked."""
    if count < 2:
        raise ShapeError(f"Cannot choose a pair: found {count} candidate(s); expected two or more. Add images.")
    pairs = np.array([(min(i, j), max(i, j)) for i, j in exclude], dtype=np.int64).reshape(-1, 2)
    known = (pairs[:, 0] >= 0) & (pairs[:, 1] < count) & (pairs[:, 0] != pairs[:, 1])
    keys = np.unique(_keys(pairs[known], count))
    if len(keys) == count * (count - 1) // 2:
        raise ShapeError(f"Cannot choose a pair: all pairs of the {count} candidates are excluded. Add images.")
    return keys


def _random(vectors: Array, excluded: Any, generator: torch.Generator | None) -> tuple[int, int]:
    """Any pair that is allowed; two equal pictures only where nothing else is."""
    if generator is None:
        generator = torch.Generator()
        generator.seed()
    count = len(vectors)
    for drawn in torch.randint(count, (_TRIES, 2), generator=generator).tolist():
        i, j = min(drawn), max(drawn)
        if not _holds(excluded, i * count + j) and not np.array_equal(vectors[i], vectors[j]):
            return i, j
    pairs = _rare_pairs(vectors)
    pairs = pairs[~np.isin(_keys(pairs, count), excluded)][:_SOME]
    different = pairs[(vectors[pairs[:, 0]] != vectors[pairs[:, 1]]).any(axis=1)]
    pairs = different if len(different) else pairs
    i, j = pairs[int(torch.randint(len(pairs), (1,), generator=generator))].tolist()
    return i, j


def _rare_pairs(vectors: Array) -> Indices:
    """(P, 2) all pairs; among many where nearly all are one picture, those with one of the others."""
    other = np.flatnonzero((vectors != vectors[0]).any(axis=1))
    if len(vectors) <= _ALL_PAIRS or not 0 < 4 * len(other) < len(vectors):
        return _all_pairs(len(vectors))
    same = np.setdiff1d(np.arange(len(vectors)), other)
    return np.sort(np.stack(np.meshgrid(other, same), axis=-1).reshape(-1, 2), axis=1)


def _holds(keys: Any, key: int) -> bool:
    place = int(np.searchsorted(keys, key))
    return place < len(keys) and int(keys[place]) == key


def _seed(generator: torch.Generator) -> int:
    return int(torch.randint(2**62, (1,), generator=generator))
