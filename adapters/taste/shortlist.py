"""The pairs worth a closer look among thousands of candidates, without a table of all pairs.

The posterior's covariance becomes a few coordinates per candidate in which the squared distance of two is about the
variance of their difference (a random projection of its root). There, the best of some random pairs are improved by
looking for a better partner among all candidates, for one side and then for the other, until none is better. What is
found is measured exactly by the caller. Sets begin in the same coordinates, see `sets.py`.

Shapes: M candidates, D width, k coordinates, S pairs improved at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from .arrays import to_array
from .bradley_terry import BradleyTerry
from .covariance import factor_times
from .likelihood import Array
from .posterior import Posterior

COORDINATES = 64  # distances come out within about 18 %, at one standard deviation
_RANDOM = 4096  # pairs to begin with
_STARTS = 8
_PARTNERS = 12  # kept of each look at all candidates: the best may be a near-duplicate or excluded
_ROUNDS = 4


@dataclass(frozen=True)
class Rough:
    """What few digits tell of all candidates.

    Attributes:
        utility: (M,) float32, nats.
        spread: (M, k) float32 of `coordinates`.
    """

    utility: Array
    spread: Array

    @classmethod
    def of(cls, model: BradleyTerry, vectors: Array, generator: np.random.Generator) -> Rough:
        """Of candidates (M, D), by what the model knows."""
        weights = to_array("weights", model.weights_).astype(np.float32)
        turn = np.column_stack([weights, coordinates(model.posterior, generator, len(weights))])
        found = vectors.astype(np.float32, copy=False) @ turn  # once through all of the vectors
        return cls(np.ascontiguousarray(found[:, 0]), np.ascontiguousarray(found[:, 1:]))


def coordinates(posterior: Posterior, generator: np.random.Generator, width: int) -> Array:
    """(D, k) float32 by which vectors get coordinates whose squared distances are about variances, in nats squared.

    Its columns are drawn from the posterior; where there are as many as dimensions, they are a root of its covariance.
    """
    count = min(COORDINATES, width)
    drawn = np.eye(width) if width <= COORDINATES else generator.standard_normal((width, count)) / np.sqrt(count)
    drawn = drawn.astype(np.float32)
    if posterior.kept is not None:
        drawn = posterior.kept.astype(np.float32) @ drawn
    elif posterior.gain.shape[1]:
        gain = posterior.gain.astype(np.float32)
        drawn = _root(gain) if width <= COORDINATES else _draw(gain, drawn, generator)
    return np.asarray(factor_times(posterior.factor, drawn), dtype=np.float32)


def _root(gain: Array) -> Array:
    """Cholesky's root of I - gain gain' (D, D)."""
    return _cholesky(-(gain @ gain.T))


def _draw(gain: Array, drawn: Array, generator: np.random.Generator) -> Array:
    """(D, k) with the expected square I - gain gain', from `drawn`, whose is I; a root as small as the answers are few.

    (I - G G') Z + G S Y for normal Y, with S S' = I - G' G: (I - G G')^2 + G (I - G' G) G' = I - G G'.
    """
    noise = generator.standard_normal((gain.shape[1], drawn.shape[1])) / np.sqrt(drawn.shape[1])
    kept = _cholesky(-(gain.T @ gain)) @ noise.astype(np.float32)
    return np.asarray(drawn + gain @ (kept - gain.T @ drawn))


def _cholesky(less: Array) -> Array:
    """Of I + less, in float32; torch's takes an eighth of the time of numpy's here."""
    less[np.diag_indices_from(less)] += 1.0 + 1e-4  # rounding may leave it just below zero where all is known
    return np.asarray(torch.linalg.cholesky(torch.from_numpy(less)).numpy())


def promising_pairs(rough: Rough, generator: np.random.Generator) -> npt.NDArray[np.integer]:
    """(P, 2) pairs of candidates from which an answer would teach most, what seems best first.

    Args:
        rough: what is known of the candidates.
        generator: for the pairs to begin with.
    """
    utility, spread = rough.utility, rough.spread
    count = len(utility)
    first = generator.integers(0, count, _RANDOM)
    second = (first + generator.integers(1, count, _RANDOM)) % count
    square = np.einsum("ij,ij->i", spread[first] - spread[second], spread[first] - spread[second])
    best = np.argsort(-rough_gain(utility[first] - utility[second], square), kind="stable")[: _STARTS * _PARTNERS]
    found = [np.stack([first[best], second[best]], axis=1)]
    fixed = first[best[:_STARTS]]
    lengths = np.einsum("ij,ij->i", spread, spread)
    for _ in range(_ROUNDS):
        square = lengths[fixed][:, None] + lengths[None, :] - 2.0 * (spread[fixed] @ spread.T)
        gain = rough_gain(utility[fixed][:, None] - utility[None, :], np.maximum(square, 0.0))
        gain[np.arange(len(fixed)), fixed] = -1.0
        partners = np.argpartition(-gain, min(_PARTNERS, count - 1) - 1, axis=1)[:, :_PARTNERS]
        found.append(np.stack([np.repeat(fixed, partners.shape[1]), partners.reshape(-1)], axis=1))
        fixed = np.argmax(gain, axis=1)
    pairs = np.concatenate(found)
    pairs = np.unique(np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1), axis=0)
    first, second = pairs.T
    square = np.einsum("ij,ij->i", spread[first] - spread[second], spread[first] - spread[second])
    return np.asarray(pairs[np.argsort(-rough_gain(utility[first] - utility[second], square), kind="stable")])


def rough_gain(log_odds: Array, variance: Array) -> Array:
    """What an answer takes from the posterior's volume, in nats, at the mean answer: half of log(1 + p (1 - p) v).

    Ranks pairs as `information_gain` does, nearly, for an eighth of the work.
    """
    half = np.exp(-np.abs(log_odds) / np.sqrt(1.0 + (np.pi / 8.0) * variance))
    return np.asarray(np.log1p(variance * (half / ((1.0 + half) * (1.0 + half)))))
