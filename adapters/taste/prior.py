"""What to expect of a taste before any answer: how strong it is and how it spreads over directions, by evidence.

The unit is nats of log-odds for an average pair, not a number per weight: vectors of one encoder differ by 0.3, of
another by 1.2, and the same person should not look undecided in the first. With s the standard deviation of the
log-odds of a pair of average length |chosen - rejected|, prior_variance = s^2 / mean(|chosen - rejected|^2).

The evidence (the probability of the answers under the prior, Laplace) picks s from a grid. A few answers hardly tell
one s from another, so s itself gets a prior: about 2 nats (87 % sure of an average pair), within a factor of e at one
standard deviation. Answers that contradict each other pull s down, consistent ones up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .bradley_terry import BradleyTerry
from .covariance import Stretch
from .likelihood import Array
from .observed import Observed, observe
from .subspace import Subspace

__all__ = ["SPREADS", "Prior", "evidence_prior", "evidence_prior_variance"]

SPREADS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # nats
_EXPECTED = 2.0  # nats
EXPONENTS = (0.0, -0.25, -0.5, -0.75)
_USUAL, _VARIES = -0.25, 0.4  # exponent before any answer, and its standard deviation
_NEWEST = 200  # answers of a kind that are looked at; more make the choice no better and the click slower


@dataclass(frozen=True)
class Prior:
    """What to expect of the weights before any answer.

    Attributes:
        variance: of each weight, > 0; where there is a stretch, across all other directions.
        stretch: the covariance where it is not the same in all directions.
    """

    variance: float
    stretch: Stretch | None = None

    def times(self, factor: float) -> Prior:
        """The prior with so many times the variance."""
        stretch = None if self.stretch is None else replace(self.stretch, variance=factor * self.stretch.variance)
        return Prior(factor * self.variance, stretch)

    def fit(self, observed: Observed) -> BradleyTerry:
        """Learn from answers under this prior."""
        return BradleyTerry(self.variance).fit(**observed.arguments, prior_covariance=self.stretch)


def evidence_prior(observed: Observed, subspace: Subspace | None = None) -> Prior:
    """Return the prior that expected these answers best: first its spread, then its stretch at that spread.

    Args:
        observed: Answers.
        subspace: In which directions images vary; None for a prior that is the same in all.
    """
    newest = observed.newest(_NEWEST)
    differences = newest.differences
    if not np.square(differences).sum() > 0.0:
        return Prior(_EXPECTED**2)
    usual = _scaled(1.0, differences, subspace, _USUAL)
    spread = _best([(value, usual.times(value**2), _odds(value)) for value in SPREADS], newest)
    if subspace is None:
        return usual.times(spread**2)
    priors = {exponent: _scaled(spread, differences, subspace, exponent) for exponent in EXPONENTS}
    return priors[_best([(e, prior, -0.5 * ((e - _USUAL) / _VARIES) ** 2) for e, prior in priors.items()], newest)]


def _scaled(spread: float, differences: Array, subspace: Subspace | None, exponent: float) -> Prior:
    """The prior under which an average pair's log-odds have this standard deviation, in nats."""
    if subspace is None:
        return Prior(float(spread**2 / np.square(differences).sum(axis=1).mean()))
    stretch = subspace.stretch(exponent)
    variance = float(spread**2 / np.square(stretch.relative(differences)).sum(axis=1).mean())
    return Prior(variance, replace(stretch, variance=variance))


def _odds(spread: float) -> float:
    """What speaks for a spread before any answer, in nats."""
    return -0.5 * math.log(spread / _EXPECTED) ** 2


def _best(settings: Sequence[tuple[float, Prior, float]], observed: Observed) -> float:
    """The value whose prior expected the answers best; settings are (value, its prior, its odds in nats)."""
    return max(settings, key=lambda one: one[1].fit(observed).log_evidence() + one[2])[0]


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
