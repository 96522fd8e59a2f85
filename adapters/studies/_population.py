"""What the answers of other people let one expect of a new one: a Normal distribution over weights.

    weights of a person ~ Normal(mean, (1 - share) between + share * plain)

with `between` the covariance found from people's posteriors and `plain` the same amount in all directions. How much
of either, by evidence: the distribution is found from every second person, and the share is the one that expected the
others' answers best.

Shapes: D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..taste import BradleyTerry
from ..taste.observed import Observed
from ..taste.prior import evidence_prior
from ._asking import PriorOf, World, answers_of
from ._tables import Array

__all__ = ["Population", "population_of"]

SHARES = (0.1, 0.3, 0.6, 1.0)
_ROUNDS = 6


@dataclass(frozen=True)
class Population:
    """Normal distribution over people's weights: mean (D,) and covariance (D, D)."""

    mean: Array
    covariance: Array

    def fit(self, observed: Observed) -> BradleyTerry:
        """Learn from answers of a new person."""
        arguments = observed.arguments
        return BradleyTerry().fit(**arguments, prior_mean=self.mean, prior_covariance=self.covariance)


def population_of(world: World, answers: int, mistakes: float, seed: int) -> PriorOf:
    """The prior that these people's answers to random pairs give to others."""
    people = [answers_of(world, person, answers, mistakes, seed) for person in range(len(world.utility))]
    found = find_population(people)
    return lambda observed: found


def find_population(people: Sequence[Observed]) -> Population:
    """Find the distribution, and how far it is to be believed, from the answers of two people or more."""
    learned, judged = people[::2], people[1::2]
    priors = [_estimate(learned, share) for share in SHARES]
    scores = [sum(prior.fit(observed).log_evidence() for observed in judged) for prior in priors]
    return _estimate(people, SHARES[int(np.argmax(scores))])


def _estimate(people: Sequence[Observed], share: float) -> Population:
    """Expectation-maximisation, from equal variances in all directions."""
    width = people[0].chosen.shape[1]
    variance = float(np.median([evidence_prior(observed).variance for observed in people]))
    found = Population(np.zeros(width), variance * np.eye(width))
    for _ in range(_ROUNDS):
        models = [found.fit(observed) for observed in people]
        weights = np.array([model.weights_ for model in models])
        unknown = np.mean([model.posterior.covariance(np.eye(width)) for model in models], axis=0)
        mean = weights.mean(axis=0) * len(people) / (len(people) + 1.0)
        between = (weights - mean).T @ (weights - mean) / len(people) + unknown
        plain = np.trace(between) / width * np.eye(width)
        found = Population(mean, (1.0 - share) * between + share * plain)
    return found
