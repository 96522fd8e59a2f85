"""How strong a taste to expect before any answer: the prior's variance, by evidence.

The unit is nats of log-odds for an average pair, not a number per weight: vectors of one encoder differ by 0.3, of
another by 1.2, and the same person should not look undecided in the first. With s the standard deviation of the
log-odds of a pair of average length |chosen - rejected|, prior_variance = s^2 / mean(|chosen - rejected|^2).

The evidence (the probability of the answers under the prior, Laplace) picks s from a grid. A few answers hardly tell
one s from another, so s itself gets a prior: about 2 nats (87 % sure of an average pair), within a factor of e at one
standard deviation. Answers that contradict each other pull s down, consistent ones up.
"""

from __future__ import annotations

import math

import numpy as np

from .bradley_terry import BradleyTerry
from .likelihood import Array

SPREADS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # nats
_EXPECTED = 2.0  # nats
_NEWEST = 200  # answers looked at; more make the choice no better and the click slower


def evidence_prior_variance(chosen: Array, rejected: Array, ties: tuple[Array, Array] | None = None) -> float:
    """Return the prior variance that expected these answers best.

    Args:
        chosen, rejected: (N, D).
        ties: two (T, D).
    """
    chosen, rejected = chosen[-_NEWEST:], rejected[-_NEWEST:]
    first, second = ties if ties is not None else (chosen[:0], chosen[:0])
    first, second = first[-_NEWEST:], second[-_NEWEST:]
    differences = np.concatenate([chosen - rejected, first - second])
    square = float(np.mean(np.sum(differences**2, axis=1))) if len(differences) else 0.0
    if square <= 0.0:
        return _EXPECTED**2
    scores = []
    for spread in SPREADS:
        model = BradleyTerry(spread**2 / square).fit(chosen, rejected, ties=(first, second))
        scores.append(model.log_evidence() - 0.5 * math.log(spread / _EXPECTED) ** 2)
    return float(SPREADS[int(np.argmax(scores))] ** 2 / square)
