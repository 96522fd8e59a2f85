"""Which two images to ask about next.

Shapes: M candidates, D width.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any, Protocol

import numpy as np
import torch

from ..errors import ShapeError
from .arrays import Matrix, require_finite, to_array, to_matrix
from .bradley_terry import BradleyTerry
from .likelihood import Array

STRATEGIES = ("information_gain", "random", "uncertainty")

# Entropy of an answer by its log-odds z, in nats, as ln 2 * sum of share * exp(-z^2 / (2 width^2)): within 2.1e-4 of
# the true one everywhere (fitted by least squares on [-14, 14]; one Gaussian, as for probit, is off by 2.5e-2).
_SHARES = (0.24156221, 0.18207543, 0.57636236)
_WIDTHS = (1.18470453, 2.91346833, 1.86763538)
# sigmoid(z) as sum of share * Phi(slope * z), within 5e-5 everywhere; as in Monahan & Stefanski 1992.
_PROBIT_SHARES = (0.58313584, 0.25578903, 0.16107513)
_PROBIT_SLOPES = (0.57636824, 0.90542096, 0.36361784)


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
      of answer and weights): sides whose difference is uncertain, not those that are merely equally good, and never
      two of the same picture.
    - "uncertainty": the answer that is hardest to predict (probability nearest to 1/2).
    - "random": any pair, all equally likely. Also what a taste that has not learned yet gets.

    Args:
        taste: A fitted `BradleyTerry`, a `Taste`, or None.
        candidates: (M, D) vectors of the images to choose among, M >= 2.
        strategy: one of `STRATEGIES`.
        exclude: Pairs of indices not to return, either way round; others' indices do no harm.
        generator: For "random"; without one each call is different.

    Raises:
        ShapeError: fewer than two candidates, all pairs excluded, NaN, or a width that the taste doesn't have.

    Source: Houlsby et al. 2011, BALD, arXiv:1112.5745, equation 2. Differs: logistic answers; entropy in closed form.
    """
    if strategy not in STRATEGIES:
        raise ShapeError(f"Cannot choose a pair: strategy {strategy!r}; expected one of {', '.join(STRATEGIES)}.")
    vectors = require_finite("candidates", to_matrix("candidates", candidates)).astype(np.float64, copy=False)
    allowed = _allowed(len(vectors), exclude or ())
    model = taste if isinstance(taste, BradleyTerry) or taste is None else taste.model
    if strategy == "random" or model is None or not hasattr(model, "weights_"):
        return _random(allowed, generator)
    utility = to_array("candidates", model.utility(vectors))
    log_odds = utility[:, None] - utility[None, :]
    if strategy == "uncertainty":
        same = _same(vectors)
        score = np.where(same, -np.inf, -np.abs(log_odds))
    else:
        covariance = to_array("candidates", model.utility_covariance(vectors))
        own = np.diag(covariance)
        score = information_gain(log_odds, np.maximum(own[:, None] + own[None, :] - 2.0 * covariance, 0.0))
    score = np.where(allowed, score, -np.inf)
    best = int(np.argmax(score))
    i, j = divmod(best, len(vectors))
    return (i, j) if allowed[i, j] else _random(allowed, generator)


def information_gain(log_odds: Array, variance: Array) -> Array:
    """Mutual information, in nats, between an answer and its log-odds ~ Normal(log_odds, variance).

    entropy(mean answer) - mean entropy(answer), both in closed form; any shapes that broadcast. Within 2e-3 nats of
    numerical integration.
    """
    mean = np.zeros(np.broadcast_shapes(log_odds.shape, variance.shape))
    for share, slope in zip(_PROBIT_SHARES, _PROBIT_SLOPES, strict=True):
        argument = slope * log_odds / np.sqrt(1.0 + slope * slope * variance)
        mean += share * torch.special.ndtr(torch.from_numpy(np.asarray(argument))).numpy()
    mean = np.clip(mean, 1e-12, 1.0 - 1e-12)
    of_mean = -mean * np.log(mean) - (1.0 - mean) * np.log1p(-mean)
    return np.maximum(of_mean - _mean_entropy(log_odds, variance), 0.0)


def _mean_entropy(log_odds: Array, variance: Array) -> Array:
    """Mean entropy of an answer whose log-odds are Normal."""
    total = np.zeros(np.broadcast_shapes(log_odds.shape, variance.shape))
    for share, width in zip(_SHARES, _WIDTHS, strict=True):
        spread = width * width + variance
        total += math.log(2.0) * share * width / np.sqrt(spread) * np.exp(-0.5 * log_odds * log_odds / spread)
    return total


def _allowed(count: int, exclude: Collection[tuple[int, int]]) -> Any:
    """(M, M) of pairs i < j that may be asked."""
    if count < 2:
        raise ShapeError(f"Cannot choose a pair: found {count} candidate(s); expected two or more. Add images.")
    allowed = np.triu(np.ones((count, count), dtype=bool), 1)
    for i, j in exclude:
        if 0 <= i < count and 0 <= j < count:
            allowed[min(i, j), max(i, j)] = False
    if not allowed.any():
        raise ShapeError(f"Cannot choose a pair: all pairs of the {count} candidates are excluded. Add images.")
    return allowed


def _same(vectors: Array) -> Any:
    """(M, M) of candidates whose vectors are equal: one picture twice teaches nothing."""
    _, group = np.unique(vectors, axis=0, return_inverse=True)
    group = group.reshape(-1)
    return group[:, None] == group[None, :]


def _random(allowed: Any, generator: torch.Generator | None) -> tuple[int, int]:
    if generator is None:
        generator = torch.Generator()
        generator.seed()
    pairs = np.argwhere(allowed)
    i, j = pairs[int(torch.randint(len(pairs), (1,), generator=generator))]
    return int(i), int(j)
