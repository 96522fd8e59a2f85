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

from dataclasses import dataclass

import numpy as np

from ..comparisons import Comparison, PreferenceStore
from .bradley_terry import BradleyTerry
from .ceiling import SECOND_LOOK
from .likelihood import Array, sigmoid
from .person import Encoder, read_answers

__all__ = ["Suspect", "left_out", "mistake_probabilities", "second_look"]

FEWEST = 10  # answers below which nothing is a surprise
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


def second_look(store: PreferenceStore, encoder: Encoder, person: str, most: int = 10) -> tuple[Suspect, ...]:
    """Return the answers that are likely mistakes, likeliest first; often none.

    Only pairs: of a ranking no single answer can be taken back. A pair that was asked again since, whether for a second
    look or not, isn't asked a third time.

    Args:
        most: how many at most.
    """
    answers = read_answers(store, encoder, person)
    decided = [c for c in answers.comparisons if c.outcome != "tie"]
    pairs = [row for row, c in enumerate(decided) if c.ranking is None]
    if len(pairs) < FEWEST or most < 1:
        return ()
    chosen, rejected = answers.preferences()
    probabilities = mistake_probabilities(answers.fit(), (chosen - rejected)[pairs])
    asked: dict[frozenset[str], int] = {}
    for c in answers.comparisons:
        asked[frozenset((c.left, c.right))] = asked.get(frozenset((c.left, c.right)), 0) + 1
    suspects = [
        Suspect(c, float(probability))
        for c, probability in zip((decided[row] for row in pairs), probabilities, strict=True)
        if probability > LIKELY and c.source != SECOND_LOOK and asked[frozenset((c.left, c.right))] == 1
    ]
    return tuple(sorted(suspects, key=lambda one: -one.probability)[:most])


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
