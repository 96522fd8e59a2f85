"""How well a taste predicts its person, on answers that it had not seen."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from ..comparisons import PreferenceStore
from .arrays import to_array
from .bradley_terry import BradleyTerry
from .person import Answers, Encoder, read_answers
from .prior import evidence_prior_variance

COIN = math.log(2.0)  # log-loss of a coin, in nats


@dataclass(frozen=True)
class LearningReport:
    """What the answers say about how much was learned.

    Attributes:
        person: whose answers.
        answers: how many taught something (preferences and ties).
        predicted: how many of them were predicted before they were learned from: each decided answer but the first,
            unless that same pair had been asked before.
        correct: how many of those came out as predicted; an even guess counts half.
        accuracy: correct / predicted in [0, 1]; None when nothing was predicted yet.
        interval: 95 % Wilson interval of the accuracy, (0, 1) when nothing was predicted yet.
        log_loss: mean -log P(what was answered), in nats; None likewise. A coin has `coin_log_loss` = 0.693.
        recent_accuracy: accuracy on the latest 20 predicted.
        hits: each of those predictions in order: 1 right, 0 wrong, 0.5 an even guess.
    """

    person: str
    answers: int
    predicted: int
    correct: float
    accuracy: float | None
    interval: tuple[float, float]
    log_loss: float | None
    recent_accuracy: float | None
    coin_accuracy: float = 0.5
    coin_log_loss: float = COIN
    hits: tuple[float, ...] = ()

    @property
    def better_than_coin(self) -> bool:
        """Whether the whole interval lies above 50 %."""
        return self.interval[0] > self.coin_accuracy

    @property
    def summary(self) -> str:
        """One plain sentence."""
        if self.accuracy is None:
            return f"{self.answers} answers so far: too few to test a prediction on."
        low, high = (round(100 * side) for side in self.interval)
        return (
            f"Predicted {self.correct:g} of {self.predicted} answers before learning from them: "
            f"{100 * self.accuracy:.0f} % (95 % interval {low} to {high} %; a coin gets 50 %)."
        )


def learned_report(
    store: PreferenceStore, encoder: Encoder, person: str, uncounted: Collection[str] = ()
) -> LearningReport:
    """Replay the answers in order, predicting each from those before it (prequential, Dawid 1984).

    Args:
        uncounted: Sources of comparisons that are learned from and not predicted. Pairs that were chosen because their
            answer was hard to predict say little about how well a taste predicts others.

    No answers at all is a report with nothing in it, not an error. The model is fitted again after every answer up to
    40, then each time the answers grew by a twentieth.
    """
    answers = read_answers(store, encoder, person)
    probabilities = np.array(_predictions(answers, uncounted))
    hits = np.where(probabilities == 0.5, 0.5, probabilities > 0.5)
    count, correct = len(hits), float(hits.sum())
    return LearningReport(
        person=person,
        answers=len(answers.comparisons),
        predicted=count,
        correct=correct,
        accuracy=correct / count if count else None,
        interval=wilson_interval(correct, count),
        log_loss=float(-np.log(np.maximum(probabilities, 1e-12)).mean()) if count else None,
        recent_accuracy=float(hits[-20:].mean()) if count else None,
        hits=tuple(float(hit) for hit in hits),
    )


def _predictions(answers: Answers, uncounted: Collection[str]) -> list[float]:
    """P(what was then answered), for each answer that counts, from the answers before it."""
    probabilities = []
    seen: set[frozenset[str]] = set()
    model, fitted_on, variance, tuned_on = BradleyTerry(), 0, 1.0, 0
    for index, comparison in enumerate(answers.comparisons):
        pair = frozenset((comparison.left, comparison.right))
        tested = comparison.outcome != "tie" and comparison.source not in uncounted
        if index > 0 and tested and pair not in seen:
            if index - fitted_on >= max(1, index // 20 if index > 40 else 1):
                chosen, rejected, ties = answers.table(index)
                if index >= 1.5 * tuned_on:
                    variance, tuned_on = evidence_prior_variance(chosen, rejected, ties), index
                model, fitted_on = BradleyTerry(variance).fit(chosen, rejected, ties=ties), index
            left, right = answers.left[index : index + 1], answers.right[index : index + 1]
            probability = float(to_array("left", model.predict_proba(left, right))[0])
            probabilities.append(probability if comparison.outcome == "left" else 1.0 - probability)
        seen.add(pair)
    return probabilities


def wilson_interval(correct: float, count: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of a share; (0, 1) for no trials. Source: Wilson 1927."""
    if count == 0:
        return 0.0, 1.0
    share, spread = correct / count, z * z / count
    centre = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)
