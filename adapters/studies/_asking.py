"""People who are asked one thing after another, and how well the taste learned so far knows what else they would say.

Shapes: M pictures to ask about, T pairs to test on, P people, D joint width, C numbers of answers looked at.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..encoders import ImageTextEncoder
from ..playground.people import Person, features, make_people, noise_of
from ..playground.world import draw, random_card
from ..taste import BradleyTerry
from ..taste.observed import Observed
from ..taste.population import Population, population_prior
from ..taste.prior import Prior, evidence_prior
from ..taste.subspace import Subspace, image_subspace
from ._strategies import Ask
from ._tables import Array

__all__ = [
    "KINDS",
    "ByEvidence",
    "Fits",
    "LearnedTaste",
    "PriorOf",
    "World",
    "accuracy_by_answers",
    "draw_world",
    "plain_prior",
    "priors_of",
    "taste_of",
]

KINDS = {"pairs": 2, "best of four": 4, "ordered fours": 4}  # images shown at once
TEST_PAIRS = 1000
_CARDS = 16  # that invented people set their noise on; it is set again here
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


@dataclass(frozen=True)
class World:
    """Pictures, and what everybody thinks of them.

    Attributes:
        vectors: (M, D) of the pictures that may be shown.
        utility: (P, M) true utility of each, in units of each person's answer noise.
        difference: (T, D) left minus right of random pairs of other pictures.
        gap: (P, T) true utility of left minus right, in the same units.
    """

    vectors: Array
    utility: Array
    difference: Array
    gap: Array

    def accuracy(self, person: int, weights: Array) -> float:
        """Share of the person's answers to the test pairs, planted mistakes aside, that the weights predict."""
        predicted = self.difference @ weights
        left = 1.0 / (1.0 + np.exp(-np.clip(self.gap[person], -500, 500)))
        right = np.where(predicted > 0, left, np.where(predicted < 0, 1.0 - left, 0.5))
        return float(right.mean())

    def ceiling(self) -> float:
        """The accuracy of true utility."""
        return float((1.0 / (1.0 + np.exp(-np.abs(self.gap)))).mean())


def draw_world(
    encoder: ImageTextEncoder,
    people: int,
    pictures: int,
    seed: int,
    shared: float = 0.0,
    first: int = 0,
    cache: Path | None = None,
) -> World:
    """Draw random postcards to ask about and 0.4 times as many others to test on, and invent people.

    Noise is set so that true utility agrees with AGREEMENT of the answers to random pairs.

    Args:
        encoder: of the pictures.
        people: how many.
        pictures: M.
        seed: of the pictures and of the people.
        shared: share of the variance of everybody's utility that is common to all, in [0, 1].
        first: number of the first person, to have others than before.
        cache: folder where drawn and encoded pictures are kept for the next run.
    """
    vectors, shown = _pictures(encoder, pictures, f"clicks/{seed}/ask", cache)
    test_vectors, test_shown = _pictures(encoder, max(2, pictures * 2 // 5), f"clicks/{seed}/test", cache)
    invented = make_people(first + people + 1, seed, cards=_CARDS)
    common = _standard(invented[0], shown, test_shown)
    utility, test_utility = [], []
    for person in invented[first + 1 :]:
        own = _standard(person, shown, test_shown)
        both = [np.sqrt(1.0 - shared) * mine + np.sqrt(shared) * ours for mine, ours in zip(own, common, strict=True)]
        noise = noise_of(_gaps(both[0], seed))
        utility.append(both[0] / noise)
        test_utility.append(both[1] / noise)
    left, right = np.random.default_rng([seed, 1]).integers(0, len(test_vectors), (2, TEST_PAIRS))
    left, right = left[left != right], right[left != right]
    tested = np.array(test_utility)
    return World(
        vectors, np.array(utility), test_vectors[left] - test_vectors[right], tested[:, left] - tested[:, right]
    )


def _pictures(encoder: ImageTextEncoder, count: int, name: str, cache: Path | None) -> tuple[Array, Array]:
    """Vectors (count, D) and features (count, F) of random cards."""
    kept = None if cache is None else cache / f"{encoder.identity[:16]}-{name.replace('/', '-')}-{count}.npz"
    if kept is not None and kept.exists():
        with np.load(kept) as found:
            return found["vectors"], found["features"]
    rng = random.Random(name)
    vectors, shown = [], []
    for start in range(0, count, 100):
        pictures = [draw(random_card(rng)) for _ in range(min(100, count - start))]
        vectors.append(encoder.encode_images(pictures).double().numpy())
        shown.append(np.stack([features(picture) for picture in pictures]))
    both = np.concatenate(vectors), np.concatenate(shown)
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept, vectors=both[0], features=both[1])
    return both


def _standard(person: Person, shown: Array, test_shown: Array) -> list[Array]:
    """Utility of both lists of pictures, with standard deviation 1 over the first."""
    both = [np.array([person.utility(row) for row in rows]) for rows in (shown, test_shown)]
    return [utility / both[0].std() for utility in both]


def _gaps(utility: Array, seed: int) -> Array:
    left, right = np.random.default_rng([seed, 2]).integers(0, len(utility), (2, 2000))
    gaps = np.abs(utility[left] - utility[right])
    return np.asarray(gaps[gaps > 0])


def accuracy_by_answers(
    world: World,
    person: int,
    kind: str,
    ask: Ask,
    prior_of: PriorOf,
    sizes: Sequence[int],
    mistakes: float,
    seed: int,
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
    """
    rng = np.random.default_rng([seed, person, KINDS[kind]])
    learned = _Learned(world.vectors.shape[1], kind, prior_of)
    found = []
    for count in range(max(sizes) + 1):
        if count in sizes:
            found.append(world.accuracy(person, learned.model().weights_))
        if count < max(sizes):
            known = count > 0 or not isinstance(prior_of, ByEvidence) or prior_of.population is not None
            shown = ask(learned.model if known else None, world.vectors, KINDS[kind], rng)
            learned.add(world.vectors[_answer(world.utility[person, shown], mistakes, rng, shown)])
    return found


def answers_of(world: World, person: int, count: int, mistakes: float, seed: int) -> Observed:
    """What a person answered to `count` random pairs."""
    rng = np.random.default_rng([seed, person])
    learned = _Learned(world.vectors.shape[1], "pairs", plain_prior)
    for _ in range(count):
        shown = rng.choice(len(world.vectors), 2, replace=False)
        learned.add(world.vectors[_answer(world.utility[person, shown], mistakes, rng, shown)])
    return learned.observed()


def _answer(utility: Array, mistakes: float, rng: np.random.Generator, shown: Any) -> Any:
    """The pictures shown, best first, as Plackett-Luce has it; of a pair that is Bradley-Terry."""
    careless = rng.random() < mistakes
    return shown[np.argsort(-(utility * (not careless) + rng.gumbel(size=len(utility))))]


class _Learned:
    """Answers so far and what was learned from them; learned anew only when asked for."""

    def __init__(self, width: int, kind: str, prior_of: PriorOf) -> None:
        self._kind, self._prior_of, self._width = kind, prior_of, width
        self._given: list[Array] = []
        self._prior: Fits | None = None
        self._set_at = self._fitted_at = -1
        self._model: BradleyTerry | None = None

    def add(self, ranked: Array) -> None:
        """One answer: the vectors of what was shown, the best first."""
        self._given.append(ranked)

    def observed(self) -> Observed:
        """All answers."""
        given, empty = self._given, np.zeros((0, self._width))
        pairs = given if self._kind == "pairs" else []
        chosen, rejected = (np.stack([pair[side] for pair in pairs]) if pairs else empty for side in (0, 1))
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
