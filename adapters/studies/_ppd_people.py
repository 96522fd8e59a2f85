"""People whom the playground's PPD never saw, what they answered, and what anybody could know of them from that.

Shapes: P people, N answers of each, M invented others, K captions, V cards of each, D image vectors, F features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..playground.people import AGREEMENT, FEATURES, Person
from ..playground.training.ppd_cards import BLOCKS, Cards, answers_of, people_of, utilities
from ._tables import Array

__all__ = ["CARED", "Crowd", "Met", "crowd", "interview", "meet", "true_utilities"]

CARED = 5  # properties that a person of `make_people` cares for
_HALVINGS = 40  # of the logarithm of a noise; 1e4 to 1e-4
_GAPS = 400  # pairs that the noise is set on
_TOGETHER = 4000  # people whose utilities are held at a time


@dataclass(frozen=True, eq=False)
class Met:
    """P people and N answers of each, to random pairs of cards of one caption.

    Attributes:
        people: With their noise.
        liked, disliked: (P, N, F) measured in the chosen and in the rejected card.
        chosen, rejected: (P, N, D) their vectors.
    """

    people: list[Person]
    liked: Array
    disliked: Array
    chosen: Tensor
    rejected: Tensor

    def first(self, answers: int) -> tuple[Tensor, Tensor]:
        """The vectors of everybody's first answers."""
        return self.chosen[:, :answers], self.rejected[:, :answers]


def meet(people: int | Sequence[Person], cards: Cards, answers: int, seed: int) -> Met:
    """Invent people, or take some, and let them answer.

    Args:
        people: How many, or who.
        cards: To ask about.
        answers: N.
        seed: Of the people and of what they are asked.
    """
    who = people_of(people, seed, cards) if isinstance(people, int) else list(people)
    known = answers_of(who, cards, cards, 1, answers, seed).known
    sides = [cards.measured.double().numpy()[known[..., 0], known[..., side]] for side in (1, 2)]
    vectors = [cards.vectors[known[..., 0], known[..., side]] for side in (1, 2)]
    return Met(who, sides[0], sides[1], vectors[0], vectors[1])


def interview(met: Met, cards: Cards, others: Crowd, answers: int, pool: int, seed: int) -> Met:
    """Let the same people answer what says most about them, instead of random questions.

    Each question is the one of a pool whose answer is expected to tell most of whom of the crowd they are like, given
    their answers so far: the entropy of the mean answer minus the mean entropy of the answers.

    Args:
        met: Who is asked.
        cards: To ask about.
        others: What somebody may be like.
        answers: N, at most `pool`.
        pool: How many random pairs of cards of one caption there are to choose from.
        seed: Of the pool and the coins.
    """
    rng = np.random.default_rng([seed, 79])
    caption = rng.integers(len(cards.captions), size=pool)
    views = rng.random((pool, cards.measured.shape[1])).argsort(1)[:, :2]
    seen = [cards.measured.double().numpy()[caption, views[:, side]] for side in (0, 1)]
    vectors = [cards.vectors[caption, views[:, side]] for side in (0, 1)]
    left = _chance(others.utilities(seen[0]) - others.utilities(seen[1]))  # (M, pool)
    unsure = _entropy(left)
    true = _chance(true_utilities(met.people, seen[0]) - true_utilities(met.people, seen[1]))
    asked = np.zeros((len(met.people), answers), dtype=np.int64)
    wins = np.zeros((len(met.people), answers), dtype=bool)
    for person in range(len(met.people)):
        chances = np.full(len(left), 1 / len(left))
        for number in range(answers):
            tells = _entropy(chances @ left) - chances @ unsure
            tells[asked[person, :number]] = -1.0
            pair = int(tells.argmax())
            said = bool(rng.random() < true[person, pair])
            asked[person, number], wins[person, number] = pair, said
            chances = chances * (left[:, pair] if said else 1 - left[:, pair])
            chances /= chances.sum()
    there = torch.from_numpy(wins)[..., None]
    features = [side[asked] for side in seen]
    looks = [side[torch.from_numpy(asked)] for side in vectors]
    return Met(
        met.people,
        np.where(wins[..., None], features[0], features[1]),
        np.where(wins[..., None], features[1], features[0]),
        torch.where(there, looks[0], looks[1]),
        torch.where(there, looks[1], looks[0]),
    )


def _entropy(chance: Array) -> Array:
    """Of a coin whose chance is in (0, 1), in nats."""
    found: Array = -chance * np.log(chance) - (1 - chance) * np.log(1 - chance)
    return found


def _chance(odds: Array) -> Array:
    """Of log-odds; so far from 0 and 1 that both have a logarithm."""
    found: Array = 1 / (1 + np.exp(-np.clip(odds.astype(np.float64), -30.0, 30.0)))
    return found


@dataclass(frozen=True, eq=False)
class Crowd:
    """M people drawn as `make_people` draws them: what somebody may be like of whom nothing is known yet.

    Attributes:
        weights: (M, F) in units of each person's noise.
        pairs: (M, 2, 2) features that matter together. gains: (M, 2) how much; 0 for every second person.
    """

    weights: Array
    pairs: np.ndarray
    gains: Array

    def utilities(self, measured: Array) -> Array:
        """(M, R) of pictures with features (R, F), in units of each person's noise."""
        found: Array = self.weights @ measured.T.astype(self.weights.dtype)
        for k in range(2):
            one, other = (measured.T.astype(found.dtype)[self.pairs[:, k, side]] for side in (0, 1))
            found += self.gains[:, k, None] * one * other
        return found

    def chances(self, left: Array, right: Array) -> Array:
        """(M,) posterior of being each of them, from answers whose chosen cards had features (N, F) `left`."""
        logs = np.zeros(len(self.weights))
        for start in range(0, len(logs), _TOGETHER):
            part = slice(start, start + _TOGETHER)
            some = Crowd(self.weights[part], self.pairs[part], self.gains[part])
            logs[part] = -np.logaddexp(0.0, some.utilities(right) - some.utilities(left)).sum(1)
        chances = np.exp(logs - logs.max())
        result: Array = chances / chances.sum()
        return result

    def likes(self, chances: Array, measured: Array, rng: np.random.Generator, drawn: int = 3000) -> Array:
        """(R,) mean utility of pictures (R, F) under a posterior: what to show so as to be liked most."""
        picked = rng.choice(len(chances), drawn, p=chances)
        some = Crowd(self.weights[picked], self.pairs[picked], self.gains[picked])
        found: Array = some.utilities(measured).mean(0)
        return found


def crowd(count: int, cards: Cards, seed: int) -> Crowd:
    """Draw people by the recipe of `make_people`, many at a time.

    Args:
        count: M.
        cards: That each person's noise is set on, so that true utility agrees with AGREEMENT of the answers.
        seed: Of the people.
    """
    rng, names = np.random.default_rng([seed, 77]), np.array(BLOCKS)
    cared = rng.random((count, names.max() + 1)).argsort(1).argsort(1) < CARED
    weights = rng.standard_normal((count, len(FEATURES))) * cared[:, names]
    first = rng.integers(len(FEATURES), size=(count, 2))
    second = (first + rng.integers(1, len(FEATURES), size=(count, 2))) % len(FEATURES)
    gains = 2.0 * rng.standard_normal((count, 2)) * (np.arange(count) % 2)[:, None]
    raw = Crowd(weights.astype(np.float32), np.stack([first, second], axis=2), gains.astype(np.float32))
    x = cards.measured.double().numpy()
    caption = rng.integers(len(x), size=_GAPS)
    one = rng.integers(x.shape[1], size=_GAPS)
    other = (one + rng.integers(1, x.shape[1], size=_GAPS)) % x.shape[1]
    left, right = x[caption, one], x[caption, other]
    noise = np.concatenate(
        [
            _noise(np.abs(some.utilities(left) - some.utilities(right)))
            for some in (
                Crowd(raw.weights[s : s + _TOGETHER], raw.pairs[s : s + _TOGETHER], raw.gains[s : s + _TOGETHER])
                for s in range(0, count, _TOGETHER)
            )
        ]
    )[:, None]
    return Crowd((raw.weights / noise).astype(np.float32), raw.pairs, (raw.gains / noise).astype(np.float32))


def _noise(gaps: Array) -> Array:
    """(M,) as `noise_of`, of gaps (M, G), those of nothing left out."""
    there = gaps > 1e-6
    low, high = np.full(len(gaps), -4.0), np.full(len(gaps), 4.0)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        right = 1 / (1 + np.exp(-np.minimum(gaps / 10.0 ** middle[:, None], 60.0)))
        above = (right * there).sum(1) > AGREEMENT * np.maximum(there.sum(1), 1)
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return np.asarray(10.0**low)


def true_utilities(people: Sequence[Person], measured: Array) -> Array:
    """(P, R) utility of pictures (R, F) to each person, in units of the person's noise."""
    found: Array = utilities(people, measured) / np.array([person.noise for person in people])[:, None]
    return found
