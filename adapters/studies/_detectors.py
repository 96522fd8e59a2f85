"""Ways to tell which answers are slips, each (chosen - rejected) -> suspicion, higher for odder answers.

Shapes: N answers, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from ..taste import BradleyTerry
from ..taste.likelihood import sigmoid
from ..taste.prior import evidence_prior_variance
from ..taste.second_look import mistake_probabilities
from ._tables import Array

Flags = npt.NDArray[np.bool_]

__all__ = ["DETECTORS", "SHIPPED", "Flags", "found_at", "shown_of"]

SHIPPED = "left out, closed form"
_RATE = 0.1  # of mistakes, where EM begins
_SCALE = 15.0  # Adaptive-DPO's rho, for log-odds whose norm over all answers is 1


def _fit(rows: Array, weight: Array | None = None, variance: float | None = None) -> BradleyTerry:
    prior = _variance(rows) if variance is None else variance
    return BradleyTerry(prior).fit(rows, np.zeros_like(rows), sample_weight=weight)


def _variance(rows: Array) -> float:
    return evidence_prior_variance(rows, np.zeros_like(rows))


def _by_fit(rows: Array) -> Array:
    """How improbable each answer is to the taste that learned it, too."""
    return np.asarray(1.0 - sigmoid(rows @ _fit(rows).weights_))


def _left_out(rows: Array) -> Array:
    """What `second_look` does: how improbable to the taste that learned all others, by one Newton step."""
    return np.asarray(mistake_probabilities(_fit(rows), rows))


def _refitted(rows: Array, folds: int = 10) -> Array:
    """The same by fitting again: each tenth to the taste of the other nine."""
    suspicion, variance = np.zeros(len(rows)), _variance(rows)
    fold = np.random.default_rng(0).permutation(len(rows)) % folds
    for one in range(folds):
        out = fold == one
        if out.any() and not out.all():
            suspicion[out] = 1.0 - sigmoid(rows[out] @ _fit(rows[~out], None, variance).weights_)
    return suspicion


def _mixture(rows: Array, rounds: int = 8) -> Array:
    """A likelihood with a rate of slips, by EM: an answer counts as meant and turned over, by its probability."""
    variance, rate, slip = _variance(rows), _RATE, np.zeros(len(rows))
    for _ in range(rounds):
        model = _fit(np.concatenate([rows, -rows]), np.concatenate([1.0 - slip, slip]), variance)
        meant = sigmoid(rows @ model.weights_)
        slip = rate * (1.0 - meant) / np.maximum(rate * (1.0 - meant) + (1.0 - rate) * meant, 1e-12)
        rate = float((slip.sum() + 1.0) / (len(rows) + 10.0))
    return slip


def _annotators(rows: Array) -> Array:
    """Adaptive-DPO's three annotators as one person has them: (3, N) scaled log-odds (arXiv:2503.16921).

    The taste now, and two averages over its past: over all of it and over the latest two of eight fits.
    """
    variance = _variance(rows)
    counts = sorted({max(1, len(rows) * part // 8) for part in range(1, 9)})
    past = np.stack([_fit(rows[:count], None, variance).weights_ for count in counts])
    log_odds = np.stack([past[-1], past.mean(axis=0), past[-2:].mean(axis=0)]) @ rows.T
    length = np.linalg.norm(log_odds, axis=1, keepdims=True)
    return np.asarray(_SCALE * log_odds / np.where(length > 0.0, length, 1.0))


def _adaptive(rows: Array) -> Array:
    """Adaptive-DPO's metric: confidence times stability."""
    scaled = _annotators(rows)
    return np.asarray((1.0 - sigmoid(scaled).mean(axis=0)) * np.minimum(1.0, scaled.std(axis=0, ddof=1)))


def _confidence(rows: Array) -> Array:
    """The first half of that metric alone."""
    return np.asarray(1.0 - sigmoid(_annotators(rows)).mean(axis=0))


DETECTORS: Mapping[str, Callable[[Array], Array]] = {
    "the fit's own probability": _by_fit,
    SHIPPED: _left_out,
    "left out, ten fits": _refitted,
    "mixture with a rate of slips, EM": _mixture,
    "Adaptive-DPO: confidence x stability": _adaptive,
    "Adaptive-DPO: confidence alone": _confidence,
}


def found_at(suspicion: Array, planted: Flags, false_alarms: float) -> float:
    """Share of planted slips among the answers that are odder than all but so many of the others; ties count half.

    Args:
        suspicion: (N,).
        planted: (N,) whether it is a slip.
        false_alarms: share of the others that are called slips, too, in [0, 1].
    """
    limit = float(np.quantile(suspicion[~planted], 1.0 - false_alarms))
    own = suspicion[planted]
    return float(np.mean((own > limit) + 0.5 * (own == limit)))


def shown_of(rows: Array, least: float) -> Flags:
    """(N,) whether `second_look` would show an answer again."""
    return np.asarray(mistake_probabilities(_fit(rows), rows) > least)
