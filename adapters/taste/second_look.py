"""Answers that look like mistakes, worth a second look: what the person's other answers make unlikely.

Adaptive-DPO asks a model and its own averages whether they trust a label. For one person's Bradley-Terry posterior the
question has a closed form: how probable was this answer to those who know all the others? With z the log-odds of what
was chosen and s^2 their posterior variance, leaving the answer out gives, by one Newton step,

    s_out^2 = s^2 / (1 - w s^2)        w = sigmoid(z) (1 - sigmoid(z)), the answer's own curvature
    z_out = z - s_out^2 (1 - sigmoid(z))
    p = sigmoid(z_out / sqrt(1 + pi s_out^2 / 8))

An answer is either meant or a slip that says the opposite, a share `rate` of all. The rate that explains the answers
best is found by EM, and the probability of a slip is rate (1 - p) / (rate (1 - p) + (1 - rate) p).

Source: Zhang et al. 2025, Adaptive-DPO, arXiv:2503.16921, for the idea; Williams & Barber 1998 for leaving one out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from ..comparisons import Comparison, PreferenceStore
from ..errors import ComparisonError
from .bradley_terry import BradleyTerry
from .ceiling import SECOND_LOOK
from .likelihood import Array, sigmoid
from .person import Encoder, read_answers

__all__ = [
    "FIRST_SLIPS",
    "MOST_SLIPS",
    "Suspect",
    "left_out",
    "look_again",
    "mistake_probabilities",
    "second_look",
    "unsettled",
]

FIRST_SLIPS, MOST_SLIPS = 30, 10  # answers before people are told of any slip, and how many they are told of
FEWEST = 10  # answers below which nothing is a surprise
_EVER = 300  # newest answers among which second looks are
LIKELY = 0.15  # probability of a mistake from which an answer is worth a second look
_RATE, _COUNTS = 0.1, 10.0  # rate expected of anyone, and how many answers that guess counts


@dataclass(frozen=True)
class Suspect:
    """An answer that looks like a mistake.

    Attributes:
        comparison: the answer.
        probability: of a mistake, in [0, 1], as far as the other answers know.
    """

    comparison: Comparison
    probability: float


def second_look(
    store: PreferenceStore, encoder: Encoder, person: str, most: int = 10, half_life: float | None = None
) -> tuple[Suspect, ...]:
    """Return the answers that are likely mistakes, likeliest first; often none.

    Only pairs: of a ranking no single answer can be taken back. A pair that was asked again since, whether for a second
    look or not, isn't asked a third time.

    Args:
        most: how many at most.
        half_life: days, as `fit_taste` takes it; answers older than that are left alone: by the taste of then they may
            have been meant.
    """
    answers = read_answers(store, encoder, person, half_life)
    decided = [c for c in answers.comparisons if c.outcome != "tie"]
    pairs = [row for row, c in enumerate(decided) if c.ranking is None]
    if len(pairs) < FEWEST or most < 1:
        return ()
    chosen, rejected = answers.preferences()
    probabilities = mistake_probabilities(answers.fit(), (chosen - rejected)[pairs])
    asked: dict[frozenset[str], int] = {}
    for c in answers.comparisons:
        asked[frozenset((c.left, c.right))] = asked.get(frozenset((c.left, c.right)), 0) + 1
    recent = {id(c) for c, counts in zip(answers.comparisons, answers.weights(), strict=True) if counts >= 0.5}
    suspects = [
        Suspect(c, float(probability))
        for c, probability in zip((decided[row] for row in pairs), probabilities, strict=True)
        if probability > LIKELY
        and id(c) in recent
        and c.source != SECOND_LOOK
        and asked[frozenset((c.left, c.right))] == 1
    ]
    return tuple(sorted(suspects, key=lambda one: -one.probability)[:most])


def unsettled(store: PreferenceStore, person: str, suspects: Iterable[Suspect]) -> list[Comparison]:
    """Return the suspects' answers as they are now, likeliest first: neither changed nor looked at again since.

    Args:
        suspects: What `second_look` found, perhaps some answers ago.
    """
    seen = _looked_at(store, person)
    found = [(one.comparison, _own(store, person, one.comparison.id)) for one in suspects]
    return [
        now
        for then, now in found
        if now is not None
        and now.outcome == then.outcome
        and frozenset((now.left, now.right)) not in seen
        and all(map(store.has_image, (now.left, now.right)))
    ]


def look_again(
    store: PreferenceStore, person: str, number: int, before: str, outcome: str, left: str | None = None
) -> None:
    """Keep an answer, or change it; not safe from two threads at once.

    What is kept is one more answer to the same pair: it was meant. What is changed was a slip, and is replaced.

    Args:
        number: Id of the answer. before: What it was when it was shown. outcome: What it is now.
        left: Id of its left picture, for a click that may be of another store, whose answers have the same numbers.

    Raises:
        ComparisonError: the person has no such answer, or no longer this one; or there is no such outcome.
    """
    found = _own(store, person, number)
    if found is None or found.outcome not in (before, outcome) or left not in (None, found.left):
        raise ComparisonError(
            f"Cannot look at answer {number} again: it was changed or deleted since; expected {before!r}. Go "
            "on with the next one."
        )
    if outcome != before:
        store.change(number, outcome)
    elif frozenset((found.left, found.right)) not in _looked_at(store, person):
        store.add(replace(found, source=SECOND_LOOK, seconds=None, id=None, created=None, much=None))


def _own(store: PreferenceStore, person: str, number: int | None) -> Comparison | None:
    found = next(iter(store.newest(person, 1, (number or 0) + 1)), None)
    return found if found is not None and found.id == number else None


def _looked_at(store: PreferenceStore, person: str) -> set[frozenset[str]]:
    """Pairs that the person looked at again."""
    return {frozenset((one.left, one.right)) for one in store.newest(person, _EVER) if one.source == SECOND_LOOK}


def left_out(model: BradleyTerry, differences: Array) -> Array:
    """Return the probability (N,) of each answer to those who know all the others.

    Args:
        model: fitted on these answers, each counting once.
        differences: (N, D) chosen minus rejected.
    """
    z = differences @ np.asarray(model.weights_)
    variance = np.asarray(model.posterior.variance(differences))
    own = sigmoid(z)
    without = variance / np.maximum(1.0 - own * (1.0 - own) * variance, 1e-9)
    return sigmoid((z - without * (1.0 - own)) / np.sqrt(1.0 + np.pi * without / 8.0))


def mistake_probabilities(model: BradleyTerry, differences: Array) -> Array:
    """Return the probability (N,) that each answer is a slip that says the opposite; arguments as for `left_out`."""
    meant = left_out(model, differences)
    rate, slip = _RATE, np.zeros(len(meant))
    for _ in range(50):
        slip = rate * (1.0 - meant) / np.maximum(rate * (1.0 - meant) + (1.0 - rate) * meant, 1e-12)
        rate = float((slip.sum() + _RATE * _COUNTS) / (len(meant) + _COUNTS))
    return slip
