"""What an answer would teach: about two images, and about one more beside others.

Shapes: C candidates, s images of a set, k = s + 1.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from .likelihood import Array

__all__ = ["gain_beside", "information_gain"]

_LEAST = 1e-9  # share of a candidate that nobody would pick
# Entropy of an answer by its log-odds z, in nats, as ln 2 * sum of share * exp(-z^2 / (2 width^2)): within 2.1e-4 of
# the true one everywhere (fitted by least squares on [-14, 14]; one Gaussian, as for probit, is off by 2.5e-2).
_SHARES = (0.24156221, 0.18207543, 0.57636236)
_WIDTHS = (1.18470453, 2.91346833, 1.86763538)
# sigmoid(z) as sum of share * Phi(slope * z), within 5e-5 everywhere; as in Monahan & Stefanski 1992.
_PROBIT_SHARES = (0.58313584, 0.25578903, 0.16107513)
_PROBIT_SLOPES = (0.57636824, 0.90542096, 0.36361784)


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


def gain_beside(utility: Array, own: Array, beside: Array, others: list[int]) -> Array:
    """Nats (C,) that an answer about `others` and each of the candidates takes from the posterior's volume.

        gain = 1/2 log det(I + H K),   H = diag(p) - p p'

    with K the covariance of the set's utilities and p how probably each is picked as the best. H knows differences
    only, so the first image is the origin and log det(I + H K) = log p_0 + log det(I + S (1 / p_0 + K') S), where K' is
    the covariance of the others' differences to it and S = diag(sqrt(p)): symmetric and at least I, so it is
    eliminated without pivots, for all candidates at once.

    Args:
        utility: (C,) of the candidates. own: (C,) their variances.
        beside: (C, s) their covariances with the others.
        others: s places among the candidates, 1 or more.
    """
    size, among = len(others) + 1, beside[others]
    covariance = np.empty((size, size, len(utility)))
    covariance[:-1, :-1] = among[:, :, None]
    covariance[-1, :-1] = covariance[:-1, -1] = beside.T
    covariance[-1, -1] = own
    every = np.concatenate([np.repeat(utility[others, None], len(utility), axis=1), utility[None]])
    share = _picked(every, covariance)
    first = covariance[:1, 1:]  # with the origin
    relative = covariance[1:, 1:] - first - first.transpose(1, 0, 2) + covariance[0, 0]
    root = np.sqrt(share[1:])
    left = root[:, None] * root * (relative + 1.0 / share[0])
    left[np.diag_indices(size - 1)] += 1.0
    total = np.log(share[0])
    for k in range(size - 1):
        total += np.log(left[k, k])
        left[k + 1 :, k + 1 :] -= left[k + 1 :, k, None] * (left[k, k + 1 :] / left[k, k])
    return np.asarray(0.5 * total)


def _picked(utility: Array, covariance: Array) -> Array:
    """How probably each of a set is picked (k, C); the mean answer, not the answer of the mean.

    As sigmoid(z / sqrt(1 + pi / 8 variance)) for a pair; variance is that of the difference to the set's mean.
    """
    means = covariance.mean(axis=1)
    centred = np.einsum("iic->ic", covariance) - 2.0 * means + means.mean(axis=0)
    damped = (utility - utility.mean(axis=0)) / np.sqrt(1.0 + (np.pi / 8.0) * np.maximum(centred, 0.0))
    share = np.maximum(np.exp(damped - damped.max(axis=0)), _LEAST)
    return np.asarray(share / share.sum(axis=0))
