"""Simulated people who like some postcards more than others, for studies.

A person has a hidden utility over what is measured in a picture, captions' properties and unnamed ones alike; for some
it is linear, for others two properties matter together. Answers follow Bradley-Terry with noise of a known size.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from .measure import Measured, measure
from .world import NAMED, PERIODS, TILT, draw, random_card

__all__ = ["AGREEMENT", "FEATURES", "Person", "features", "make_people", "noise_of"]

AGREEMENT = 0.87  # share of answers that agree with true utility, over random pairs of cards
TRAITS = ("tilt", "sticker", "frame", "shading", "period", "brightness", "colourfulness")
FEATURES = (*(f"{name}={value}" for name, values in NAMED.items() for value in values), *TRAITS)

Outcome = Literal["left", "right", "tie"]


def features(picture: Image.Image | Measured) -> np.ndarray:
    """(F,) what a person can care for, in the order of FEATURES; each within about [-1, 1]."""
    found = picture if isinstance(picture, Measured) else measure(picture)
    named = [float(getattr(found, name) == value) for name, values in NAMED.items() for value in values]
    traits = [
        found.tilt / TILT,
        found.sticker,
        found.frame,
        2 * found.shading,
        found.period / max(PERIODS),
        2 * found.brightness - 1,
        2 * found.colourfulness - 1,
    ]
    return np.array(named + traits)


@dataclass(frozen=True)
class Person:
    """One simulated person.

    Attributes:
        name: Such as `person-07`.
        weights: (F,) utility per feature.
        together: Pairs of features that matter together, and how much: (first, second, weight).
        noise: What a difference of utility is divided by before the coin of Bradley-Terry is thrown, > 0.
        ties: A difference of utility below this, in units of `noise`, is answered with a tie; 0 for never.
        mistakes: Share of answers given at random, in [0, 1].
    """

    name: str
    weights: np.ndarray
    together: tuple[tuple[int, int, float], ...] = ()
    noise: float = 1.0
    ties: float = 0.0
    mistakes: float = 0.0

    def utility(self, picture: Image.Image | Measured | np.ndarray) -> float:
        """How much the person likes a picture, given as such, as measured, or as its features; any real number."""
        x = picture if isinstance(picture, np.ndarray) else features(picture)
        return float(x @ self.weights + sum(weight * x[first] * x[second] for first, second, weight in self.together))

    def answer(
        self,
        left: Image.Image | Measured | np.ndarray,
        right: Image.Image | Measured | np.ndarray,
        rng: random.Random,
    ) -> Outcome:
        """Choose between two pictures, as `utility` takes them.

        P(left) = sigmoid((utility(left) - utility(right)) / noise); a tie where that log-odds is below `ties`, and a
        coin's choice with the probability `mistakes`.

        Args:
            left: The picture on the left. right: The other one.
            rng: Its state moves on.

        Returns:
            "left", "right" or "tie".
        """
        if rng.random() < self.mistakes:
            return "left" if rng.random() < 0.5 else "right"
        log_odds = (self.utility(left) - self.utility(right)) / self.noise
        if abs(log_odds) < self.ties:
            return "tie"
        return "left" if rng.random() < 1 / (1 + np.exp(-np.clip(log_odds, -500, 500))) else "right"


def make_people(
    count: int, seed: int = 0, *, ties: float = 0.0, mistakes: float = 0.0, cards: int = 400
) -> list[Person]:
    """Invent people.

    Each cares for about a third of the properties; every second one has two pairs of properties that matter together.
    Their noise is such that true utility agrees with AGREEMENT of their answers over random pairs of cards.

    Args:
        count: How many.
        seed: The same seed gives the same people, and the first of many are those of few.
        ties: See `Person`.
        mistakes: See `Person`; they lower the agreement.
        cards: How many random cards the noise is set on.
    """
    rng = random.Random(f"cards of people/{seed}")
    shown = np.stack([features(draw(random_card(rng))) for _ in range(cards)])
    return [_person(index, seed, shown, ties, mistakes) for index in range(count)]


def _person(index: int, seed: int, shown: np.ndarray, ties: float, mistakes: float) -> Person:
    rng = random.Random(f"person/{seed}/{index}")
    blocks = [*NAMED, *TRAITS]
    cared = set(rng.sample(blocks, 5))
    weights = np.array([rng.gauss(0, 1) if feature.split("=")[0] in cared else 0.0 for feature in FEATURES])
    together: tuple[tuple[int, int, float], ...] = ()
    if index % 2:
        pairs = [rng.sample(range(len(FEATURES)), 2) for _ in range(2)]
        together = tuple((first, second, rng.gauss(0, 2)) for first, second in pairs)
    person = Person(f"person-{index:02d}", weights, together)
    utilities = np.array([person.utility(x) for x in shown])
    gaps = np.abs(utilities[:, None] - utilities)
    gaps = gaps[gaps > 0]
    return Person(person.name, weights, together, noise_of(gaps), ties, mistakes)


def noise_of(gaps: Sequence[float] | np.ndarray) -> float:
    """The noise at which sigmoid(gap / noise) is AGREEMENT on average; the average falls as the noise grows."""
    low, high = 1e-4, 1e4
    for _ in range(60):
        middle = (low * high) ** 0.5
        agreement = float(np.mean(1 / (1 + np.exp(-np.minimum(np.asarray(gaps) / middle, 500)))))
        low, high = (middle, high) if agreement > AGREEMENT else (low, middle)
    return low
