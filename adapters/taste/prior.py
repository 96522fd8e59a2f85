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
from dataclasses import dataclass

import numpy as np

from .bradley_terry import BradleyTerry
from .likelihood import Array
from .observed import Observed, observe

__all__ = ["SPREADS", "Prior", "evidence_prior", "evidence_prior_variance"]

SPREADS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # nats
_EXPECTED = 2.0  # nats
_NEWEST = 200  # answers of a kind that are looked at; more make the choice no better and the click slower


@dataclass(frozen=True)
class Prior:
    """What to expect of the weights before any answer.

    Attributes:
        variance: of each weight, > 0.
    """

    variance: float

    def fit(self, observed: Observed) -> BradleyTerry:
        """Learn from answers under this prior."""
        return BradleyTerry(self.variance).fit(**observed.arguments)


def evidence_prior(observed: Observed) -> Prior:
    """Return the prior that expected these answers best."""
    newest = observed.newest(_NEWEST)
    differences = newest.differences
    square = float(np.mean(np.sum(differences**2, axis=1))) if len(differences) else 0.0
    if square <= 0.0:
        return Prior(_EXPECTED**2)
    scores = []
    for spread in SPREADS:
        evidence = Prior(spread**2 / square).fit(newest).log_evidence()
        scores.append(evidence - 0.5 * math.log(spread / _EXPECTED) ** 2)
    return Prior(float(SPREADS[int(np.argmax(scores))] ** 2 / square))


def evidence_prior_variance(chosen: Array, rejected: Array, ties: tuple[Array, Array] | None = None) -> float:
    """Return the prior variance that expected these comparisons best.

    Args:
        chosen, rejected: (N, D).
        ties: two (T, D).
    """
    first, second = ties if ties is not None else (chosen[:0], chosen[:0])
    left, right = np.concatenate([chosen, first]), np.concatenate([rejected, second])
    outcomes = ["left"] * len(chosen) + ["tie"] * len(first)
    return evidence_prior(observe(left, right, outcomes, np.ones(len(left)))).variance
