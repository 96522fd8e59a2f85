"""What to expect of a taste before any answer: how strong it is and how it spreads over directions, by evidence.

The unit is nats of log-odds for an average pair, not a number per weight: vectors of one encoder differ by 0.3, of
another by 1.2, and the same person should not look undecided in the first. With s the standard deviation of the
log-odds of a pair of average length |chosen - rejected|, prior_variance = s^2 / mean(|chosen - rejected|^2).

The evidence (the probability of the answers under the prior, Laplace) picks s from a grid. A few answers hardly tell
one s from another, so s itself gets a prior: about 2 nats (87 % sure of an average pair), within a factor of e at one
standard deviation. Answers that contradict each other pull s down, consistent ones up.

How the prior stretches over directions (`subspace.py`), what other people have in common (`population.py`) and what
"both bad" means (`level.py`) are decided by the same evidence; each file says what that gained.

Tried and left out: the mean of the prompts' text embeddings as the prior's mean, its strength and sign by evidence. On
the playground's people (40 each of seeds 0 and 1, its own CLIP) it cost 2.3 to 2.8 points at 5 answers, 1.7 to 3.4 at
10, 2.0 at 20, and at most 0.7 from 50 on: whether a picture fits its prompt isn't what they like it for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from . import grades
from .bradley_terry import BradleyTerry
from .covariance import Stretch
from .level import augmented, log_odds_at_random
from .likelihood import Array
from .observed import Observed, observe
from .population import Population
from .subspace import Subspace

__all__ = ["SPREADS", "Prior", "evidence_prior", "evidence_prior_variance", "with_cut"]

SPREADS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # nats
_EXPECTED = 2.0  # nats
EXPONENTS = (0.0, -0.25, -0.5, -0.75)
_USUAL, _VARIES = -0.25, 0.4  # exponent before any answer, and its standard deviation
_UNLIKE_OTHERS = 2.0  # nats by which answers must speak against what other people have in common
_STRONGER = (2.0, 1.0, 4.0)  # times the variance that the answers alone speak for, tried with each cut
_MEANT = 2.0  # nats by which answers must speak for "both bad" being about a level
_NEWEST = 200  # answers of a kind that are looked at; more make the choice no better and the click slower


@dataclass(frozen=True)
class Prior:
    """What to expect of the weights before any answer.

    Attributes:
        variance: of each weight, > 0; where there is a stretch, across all other directions.
        stretch: the covariance where it is not the same in all directions.
        mean: (D,) expected weights; None for zero.
        level: whether "both bad" is about what the person would accept; else it is left out.
        cut: what "much better" is beyond, in nats; None where it is left out.
    """

    variance: float
    stretch: Stretch | None = None
    mean: Array | None = None
    level: bool = False
    cut: float | None = None

    def times(self, factor: float) -> Prior:
        """The prior of a taste that is sqrt(factor) times as strong."""
        stretch = None if self.stretch is None else replace(self.stretch, variance=factor * self.stretch.variance)
        return Prior(factor * self.variance, stretch, None if self.mean is None else math.sqrt(factor) * self.mean)

    def fit(self, observed: Observed) -> BradleyTerry:
        """Learn from answers under this prior."""
        model = BradleyTerry(self.variance)
        if observed.level is not None and self.level:
            mean = None if self.mean is None else np.append(self.mean, 0.0)
            wider = augmented(observed, observed.level) | {"prior_mean": mean}
        elif observed.asked_how_much and self.cut is not None:
            wider = grades.graded(observed, self.cut, self.mean)
        else:
            return model.fit(**observed.arguments, prior_mean=self.mean, prior_covariance=self.stretch)
        stretch = self.stretch
        if stretch is not None:
            column = np.zeros((len(stretch.directions), 1))
            stretch = replace(stretch, directions=np.concatenate([stretch.directions, column], axis=1))
        return model.fit(**wider, prior_covariance=stretch).first_weights(observed.chosen.shape[1])


def evidence_prior(observed: Observed, subspace: Subspace | None = None, population: Population | None = None) -> Prior:
    """Return the prior that expected these answers best.

    First its spread, then its stretch at that spread; or what other people have in common, unless the answers speak
    against it. At last whether "both bad" says what the person would accept, or else whether "much better"
    says how much.

    Args:
        observed: Answers.
        subspace: In which directions images vary; None for a prior that is the same in all.
        population: What other people have in common; None where nothing is known of others.
    """
    newest = observed.newest(_NEWEST)
    prior = _without_level(newest, subspace, population)
    if newest.level is not None and (found := _with_level(prior, newest)).level:
        return found
    return with_cut(prior, newest) if newest.asked_how_much else prior


def _with_level(prior: Prior, newest: Observed) -> Prior:
    if newest.level is None:
        return prior
    with_level = replace(prior, level=True)
    # Of the very answers that the level is asked about: the newest of each kind are others when sorted by kind.
    at_random = prior.fit(newest.level.without).log_evidence() + log_odds_at_random(newest.level)
    return with_level if with_level.fit(newest).log_evidence() - _MEANT > at_random else prior


def with_cut(prior: Prior, newest: Observed, stronger: Sequence[float] = _STRONGER) -> Prior:
    """With the cut that expected the answers best, if any did better than "much" said at random.

    How much says how strong a taste is, too: two steps alone leave that open for long.

    Args:
        prior: without a cut. newest: answers, of some of which it was asked how much.
        stronger: how many times the variance may be; with the first the cut is chosen.
    """

    def odds(one: Prior) -> float:
        return one.fit(newest).log_evidence() + grades.log_share(newest, one.cut or 0.0)

    found = max((replace(prior.times(stronger[0]), cut=cut) for cut in grades.CUTS), key=odds)
    found = max((replace(prior.times(factor), cut=found.cut) for factor in stronger), key=odds)
    at_random = prior.fit(newest).log_evidence() + grades.log_odds_at_random(newest)
    return found if odds(found) > at_random else prior


def _without_level(newest: Observed, subspace: Subspace | None, population: Population | None) -> Prior:
    differences = newest.differences
    if not np.square(differences).sum() > 0.0:
        return Prior(_EXPECTED**2)
    usual = _scaled(1.0, differences, subspace, _USUAL)
    spread, odds = _best_spread(usual, newest)
    prior, odds = (usual.times(spread**2), odds) if subspace is None else _best_stretch(spread, newest, subspace)
    if population is None:
        return prior
    like_others = _like_others(prior.times(spread**-2), _scaled(1.0, differences, None, 0.0), population)
    spread, odds_like_others = _best_spread(like_others, newest)
    return like_others.times(spread**2) if odds_like_others + _UNLIKE_OTHERS > odds else prior


def _like_others(prior: Prior, plain: Prior, population: Population) -> Prior:
    """The prior with what people have in common, which is in units of a prior that is the same in all directions."""
    stretch = replace(population.covariance, variance=prior.variance)
    if prior.stretch is not None:
        stretch = prior.stretch.after(population.covariance)
    return Prior(prior.variance, stretch, math.sqrt(plain.variance) * population.mean)


def _best_stretch(spread: float, observed: Observed, subspace: Subspace) -> tuple[Prior, float]:
    """The prior of this spread whose exponent expected the answers best, and how well in nats."""
    priors = {exponent: _scaled(spread, observed.differences, subspace, exponent) for exponent in EXPONENTS}
    odds = {e: _spread_odds(spread) - 0.5 * ((e - _USUAL) / _VARIES) ** 2 for e in EXPONENTS}
    scores = {e: prior.fit(observed).log_evidence() + odds[e] for e, prior in priors.items()}
    best = max(scores, key=lambda exponent: scores[exponent])
    return priors[best], scores[best]


def _best_spread(prior: Prior, observed: Observed) -> tuple[float, float]:
    """How many times as strong a taste expected the answers best, and how well in nats."""
    scores = [
        (prior.times(spread**2).fit(observed).log_evidence() + _spread_odds(spread), spread) for spread in SPREADS
    ]
    odds, spread = max(scores)
    return spread, odds


def _spread_odds(spread: float) -> float:
    """What speaks for a spread before any answer, in nats."""
    return -0.5 * math.log(spread / _EXPECTED) ** 2


def _scaled(spread: float, differences: Array, subspace: Subspace | None, exponent: float) -> Prior:
    """The prior under which an average pair's log-odds have this standard deviation, in nats."""
    if subspace is None:
        return Prior(float(spread**2 / np.square(differences).sum(axis=1).mean()))
    stretch = subspace.stretch(exponent)
    variance = float(spread**2 / np.square(stretch.relative(differences)).sum(axis=1).mean())
    return Prior(variance, replace(stretch, variance=variance))


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
