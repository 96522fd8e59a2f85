"""Drawn postcards and invented people who think something of them: what `clicks`, `prior` and `drift` ask about.

Shapes: M pictures to ask about, T pairs to test on, P people, D joint width, F measured features.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..encoders import ImageTextEncoder
from ..playground.people import Person, features, make_people, noise_of
from ..playground.world import draw, random_card
from ._tables import Array

__all__ = ["World", "draw_world"]

TEST_PAIRS = 1000
_CARDS = 16  # that invented people set their noise on; it is set again here


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
