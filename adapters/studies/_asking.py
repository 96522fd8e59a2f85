"""People who are asked one thing after another, and how well the taste learned so far knows what else they would say.

Shapes: M pictures to ask about, P people, D joint width, C numbers of answers looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..taste import BradleyTerry
from ..taste.observed import Observed, observe
from ..taste.population import Population, population_prior
from ..taste.prior import Prior, evidence_prior
from ..taste.subspace import Subspace, image_subspace
from ._strategies import Ask
from ._tables import Array
from ._world import World

__all__ = [
    "KINDS",
    "ByEvidence",
    "Fits",
    "LearnedTaste",
    "PriorOf",
    "accuracy_by_answers",
    "plain_prior",
    "priors_of",
    "taste_of",
]

KINDS = {  # images shown at once
    "pairs": 2,
    "graded pairs": 2,
    "best of four": 4,
    "graded best of four": 4,
    "ordered fours": 4,
}
_MUCH = 0.4  # of the answers to random pairs that somebody calls "much better" who is asked
_KNOWN = 64  # directions of what is known of others, as `fit_taste` looks at
_GROWTH = 1.25  # the prior is set again whenever there are so many times the answers


class Fits(Protocol):
    """A prior."""

    def fit(self, observed: Observed, /) -> BradleyTerry:
        """Learn from answers under this prior."""


PriorOf = Callable[[Observed], Fits]  # from the answers so far


@dataclass(frozen=True)
class ByEvidence:
    """The prior of `fit_taste`: set by the answers, the pictures' own directions and what others have in common.

    Attributes:
        subspace: of the pictures. population: None for somebody alone in a store.
    """

    subspace: Subspace | None = None
    population: Population | None = None

    def __call__(self, observed: Observed) -> Fits:
        """The prior after these answers."""
        if not len(observed.sample_weight) and self.population is not None:
            # Nothing to set its strength by yet, which no prediction depends on.
            return Prior(1.0, self.population.covariance, self.population.mean)
        return evidence_prior(observed, self.subspace, self.population)


plain_prior = ByEvidence()


def priors_of(world: World, others: World | None, answers: int, mistakes: float, seed: int) -> dict[str, PriorOf]:
    """ "none": somebody alone; "population": somebody in a store with these others, who answered random pairs."""
    subspace = image_subspace(world.vectors)
    priors: dict[str, PriorOf] = {"none": ByEvidence(subspace)}
    if others is not None:
        tastes = [
            taste_of(answers_of(others, person, answers, mistakes, seed)) for person in range(len(others.utility))
        ]
        priors["population"] = ByEvidence(subspace, population_prior(tastes))
    return priors


@dataclass(frozen=True)
class LearnedTaste:
    """What `population_prior` asks of a taste: weights (D,), their variance before any answer, what is known (D, r)."""

    weights: Array
    prior_variance: float
    known: Array


def taste_of(observed: Observed) -> LearnedTaste:
    """Learn as the store's others are learned from: under a prior that is the same in all directions."""
    model = evidence_prior(observed).fit(observed)
    known = np.asarray(model.posterior.leading_gain(_KNOWN), dtype=np.float64)
    return LearnedTaste(np.asarray(model.weights_), model.prior_variance, known)


def accuracy_by_answers(
    world: World,
    person: int,
    kind: str,
    ask: Ask,
    prior_of: PriorOf,
    sizes: Sequence[int],
    mistakes: float,
    seed: int,
    wavering: float = 0.0,
) -> list[float]:
    """Ask one person one thing after another; (C,) accuracy after so many answers.

    Args:
        world: the pictures and the people.
        person: which of them.
        kind: one of `KINDS`.
        ask: picks what to show.
        prior_of: the prior to learn with.
        sizes: numbers of answers, ascending; 0 is before the first.
        mistakes: share of answers given at random.
        seed: of answers and of what is drawn at random.
        wavering: standard deviation of the logarithm of what somebody calls "much", from answer to answer.
    """
    rng = np.random.default_rng([seed, person, KINDS[kind]])
    how_much = _HowMuch.of(world.utility[person], np.random.default_rng([seed, person, 99]), wavering)
    learned = _Learned(world.vectors.shape[1], kind, prior_of)
    found = []
    for count in range(max(sizes) + 1):
        if count in sizes:
            found.append(world.accuracy(person, learned.model().weights_))
        if count < max(sizes):
            known = count > 0 or not isinstance(prior_of, ByEvidence) or prior_of.population is not None
            shown = ask(learned.model if known else None, world.vectors, KINDS[kind], rng)
            answered, felt = _answer(world.utility[person, shown], mistakes, rng, shown)
            learned.add(world.vectors[answered], how_much(felt) if kind.startswith("graded") else None)
    return found


def answers_of(world: World, person: int, count: int, mistakes: float, seed: int) -> Observed:
    """What a person answered to `count` random pairs."""
    rng = np.random.default_rng([seed, person])
    learned = _Learned(world.vectors.shape[1], "pairs", plain_prior)
    for _ in range(count):
        shown = rng.choice(len(world.vectors), 2, replace=False)
        learned.add(world.vectors[_answer(world.utility[person, shown], mistakes, rng, shown)[0]])
    return learned.observed()


def _answer(utility: Array, mistakes: float, rng: np.random.Generator, shown: Any) -> tuple[Any, float]:
    """The pictures shown, best first, as Plackett-Luce has it, and how far the first felt above the second.

    Of a pair that is Bradley-Terry.
    """
    careless = rng.random() < mistakes
    felt = utility * (not careless) + rng.gumbel(size=len(utility))
    order = np.argsort(-felt)
    return shown[order], float(felt[order[0]] - felt[order[1]])


@dataclass(frozen=True)
class _HowMuch:
    """Whether somebody calls a difference "much": beyond a cut of their own, on which they may waver."""

    cut: float
    wavering: float
    rng: np.random.Generator

    @classmethod
    def of(cls, utility: Array, rng: np.random.Generator, wavering: float) -> _HowMuch:
        """The cut that `_MUCH` of their answers to random pairs are beyond; utility (M,) of all pictures."""
        left, right = rng.integers(0, len(utility), (2, 4000))
        felt = np.abs(utility[left] - utility[right] + rng.logistic(size=len(left)))
        return cls(float(np.quantile(felt[left != right], 1.0 - _MUCH)), wavering, rng)

    def __call__(self, felt: float) -> bool:
        return bool(felt > self.cut * np.exp(self.wavering * self.rng.standard_normal()))


class _Learned:
    """Answers so far and what was learned from them; learned anew only when asked for."""

    def __init__(self, width: int, kind: str, prior_of: PriorOf) -> None:
        self._kind, self._prior_of, self._width = kind, prior_of, width
        self._given: list[Array] = []
        self._much: list[bool | None] = []
        self._prior: Fits | None = None
        self._set_at = self._fitted_at = -1
        self._model: BradleyTerry | None = None

    def add(self, ranked: Array, much: bool | None = None) -> None:
        """One answer: the vectors of what was shown, the best first, and whether that is much better."""
        self._given.append(ranked)
        self._much.append(much)

    def observed(self) -> Observed:
        """All answers."""
        given, empty = self._given, np.zeros((0, self._width))
        pairs = given if self._kind in ("pairs", "graded pairs") else []
        chosen, rejected = (np.stack([pair[side] for pair in pairs]) if pairs else empty for side in (0, 1))
        if self._kind == "graded pairs":
            return observe(chosen, rejected, ["left"] * len(given), np.ones(len(given)), much=self._much)
        if self._kind == "graded best of four":
            fours = [((one[:1], one[1:]), 1.0) for one in given]
            return observe(empty, empty, [], np.zeros(0), fours, ranked_much=self._much)
        orderings = tuple(given) if self._kind == "ordered fours" else ()
        choices = tuple(given) if self._kind == "best of four" else ()
        return Observed(chosen, rejected, (empty, empty), orderings, choices, np.ones(len(given)))

    def model(self) -> BradleyTerry:
        """What was learned of all answers."""
        count = len(self._given)
        if self._model is None or count != self._fitted_at:
            observed = self.observed()
            if self._prior is None or count >= max(self._set_at + 1, _GROWTH * self._set_at):
                self._prior, self._set_at = self._prior_of(observed), count
            self._model, self._fitted_at = self._prior.fit(observed), count
        return self._model
