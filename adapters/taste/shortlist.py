"""The pairs worth a closer look among thousands of candidates, without a table of all pairs.

The posterior's covariance becomes a few coordinates per candidate in which the squared distance of two is about the
variance of their difference (a random projection of its root). There, the best of some random pairs are improved by
looking for a better partner among all candidates, for one side and then for the other, until none is better. What is
found is measured exactly by the caller.

Shapes: M candidates, D width, k coordinates, S pairs improved at once.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from .covariance import factor_times
from .likelihood import Array
from .posterior import Posterior

COORDINATES = 64  # distances come out within about 18 %, at one standard deviation
_RANDOM = 4096  # pairs to begin with
_STARTS = 8
_PARTNERS = 12  # kept of each look at all candidates: the best may be a near-duplicate or excluded
_ROUNDS = 4
_FEW = 256  # answers, up to which the gain's eigenvectors are had in less time than a root of width D


def coordinates(posterior: Posterior, vectors: Array, generator: np.random.Generator) -> Array:
    """(M, k) float32 whose squared distances are about the variance of differences of utility, in nats squared."""
    width = vectors.shape[1]
    drawn = generator.standard_normal((width, min(COORDINATES, width))) / np.sqrt(min(COORDINATES, width))
    if width <= COORDINATES:
        drawn = np.eye(width)
    if posterior.kept is not None:
        drawn = posterior.kept @ drawn
    elif posterior.gain.shape[1]:
        drawn = _root_times(posterior.gain, drawn)
    drawn = factor_times(posterior.factor, drawn)
    return np.asarray(vectors.astype(np.float32, copy=False) @ drawn.astype(np.float32))


def _root_times(gain: Array, drawn: Array) -> Array:
    """A root of I - gain gain' (symmetric for few answers, else Cholesky's) times `drawn` (D, k), in float32."""
    gain, drawn = gain.astype(np.float32), drawn.astype(np.float32)
    if gain.shape[1] <= _FEW:
        values, turned = (found.numpy() for found in torch.linalg.eigh(torch.from_numpy(gain.T @ gain)))
        values = np.clip(values, 1e-6, 1.0)
        basis = gain @ turned  # its columns have the lengths sqrt(values)
        return np.asarray(drawn - basis @ (((1.0 - np.sqrt(1.0 - values)) / values)[:, None] * (basis.T @ drawn)))
    left = -(gain @ gain.T)
    left[np.diag_indices_from(left)] += 1.0 + 1e-4  # rounding may leave it just below zero where all is known
    # torch's takes an eighth of the time of numpy's here.
    return np.asarray(torch.linalg.cholesky(torch.from_numpy(left)).numpy() @ drawn)


def promising_pairs(utility: Array, spread: Array, generator: np.random.Generator) -> npt.NDArray[np.integer]:
    """(P, 2) pairs of candidates, any order, from which an answer would teach most.

    Args:
        utility: (M,) in nats.
        spread: (M, k) of `coordinates`.
        generator: for the pairs to begin with.
    """
    utility = utility.astype(np.float32)
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
    return np.asarray(np.unique(np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1), axis=0))


def rough_gain(log_odds: Array, variance: Array) -> Array:
    """What an answer takes from the posterior's volume, in nats, at the mean answer: half of log(1 + p (1 - p) v).

    Ranks pairs as `information_gain` does, nearly, for an eighth of the work.
    """
    half = np.exp(-np.abs(log_odds) / np.sqrt(1.0 + (np.pi / 8.0) * variance))
    return np.asarray(np.log1p(variance * (half / ((1.0 + half) * (1.0 + half)))))
