"""How well a taste predicts its person on answers that it had not seen, how well it could, and when to stop."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from ..comparisons import PreferenceStore
from .bias import side_bias
from .ceiling import ceiling_of
from .enough import Advice, advise
from .likelihood import Array
from .person import Answers, Encoder, Taste, fit_taste, read_answers
from .replay import group_answers, learning_curve, replay
from .shares import Accuracy, wilson_interval
from .stranger import others_weights, stranger_accuracy
from .verdict import verdict_of

__all__ = ["UNCOUNTED", "LearningReport", "learned_report", "measured_taste", "wilson_interval"]

COIN = math.log(2.0)  # log-loss of a coin, in nats
UNCOUNTED = ("panel", "panel:generate")  # sources whose pairs were picked for what they teach, or that aren't alike


@dataclass(frozen=True)
class LearningReport:
    """What the answers say about how much was learned.

    Attributes:
        person: whose answers.
        answers: how many taught something (preferences, ties and rankings; a ranking is one).
        predicted: how many of them were predicted before they were learned from: each decided answer but the first,
            unless that same pair had been asked before.
        correct: how many of those came out as predicted; an even guess counts half, a ranking the share of its pairs.
        accuracy: correct / predicted in [0, 1]; None when nothing was predicted yet.
        interval: 95 % Wilson interval of the accuracy, (0, 1) when nothing was predicted yet.
        log_loss: mean -log P(what was answered), in nats; None likewise. A coin has `coin_log_loss` = 0.693.
        recent_accuracy: accuracy on the latest 20 predicted.
        hits: each of those predictions in order: 1 right, 0 wrong, 0.5 an even guess.
        curve: (answers, accuracy, low, high) for a plot: how accuracy came about, the last point being it.
        repeats: pairs that were decided twice.
        ceiling: the accuracy that a perfect taste could reach on someone who agrees with themselves as often as the
            repeats show, [0.5, 1]; None before five, and where the answers were foreseen better than that, so that the
            few repeats came out badly by chance. ceiling_interval: 95 %; (0.5, 1) before.
        left_share: how often the left one of two was preferred, whatever was there; None before five answers whose
            sides were tossed. left_interval: 95 %; (0, 1) before.
        stranger_accuracy: how well the mean of other people's tastes predicts the same answers; None without others.
        verdict: what to do, one of `verdict.VERDICTS`; "" where nobody asked.
        enough: more clicks will hardly change the accuracy, which is surely above a coin's.
        advice: that, or about how many more are worth it, in one plain sentence.
        worth: that number; 0 when no more are, None when there are too few answers to say.
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
    curve: tuple[tuple[int, float, float, float], ...] = ()
    repeats: int = 0
    ceiling: float | None = None
    ceiling_interval: tuple[float, float] = (0.5, 1.0)
    left_share: float | None = None
    left_interval: tuple[float, float] = (0.0, 1.0)
    stranger_accuracy: float | None = None
    verdict: str = ""
    enough: bool = False
    advice: str = ""
    worth: int | None = None

    @property
    def better_than_coin(self) -> bool:
        """Whether the whole interval lies above 50 %."""
        return self.interval[0] > self.coin_accuracy

    @property
    def measured(self) -> Accuracy | None:
        """The accuracy with its interval, as a file keeps it; None when nothing was predicted yet."""
        return None if self.accuracy is None else Accuracy(self.accuracy, *self.interval, self.predicted)

    @property
    def leans(self) -> str:
        """The side, "left" or "right", that the person surely leans to; "" for none."""
        low, high = self.left_interval
        return "left" if low > 0.5 else "right" if high < 0.5 else ""

    @property
    def summary(self) -> str:
        """One plain sentence."""
        if self.accuracy is None:
            few = "1 answer" if self.answers == 1 else f"{self.answers} answers"
            return f"{few} so far: too few to test a prediction on."
        low, high = (round(100 * side) for side in self.interval)
        return (
            f"Predicted {round(self.correct, 1):g} of {self.predicted} answers before learning from them: "
            f"{100 * self.accuracy:.0f} % (95 % interval {low} to {high} %; a coin gets 50 %)."
        )


def learned_report(
    store: PreferenceStore,
    encoder: Encoder,
    person: str,
    uncounted: Collection[str] = UNCOUNTED,
    half_life: float | None = None,
) -> LearningReport:
    """Replay the answers in order, predicting each from those before it (prequential, Dawid 1984).

    Args:
        uncounted: Sources of comparisons that are learned from and not predicted. Pairs that were chosen because their
            answer was hard to predict say little about how well a taste predicts others.
        half_life: As `fit_taste` takes it.

    No answers at all is a report with nothing in it, not an error.
    """
    answers = read_answers(store, encoder, person, half_life)
    predictions = replay(answers, uncounted)
    hits = [prediction.hit for prediction in predictions]
    count, correct = len(hits), float(sum(hits))
    ceiling, bias = ceiling_of(answers.comparisons, uncounted), side_bias(answers.comparisons)
    others = others_weights(store, encoder.identity, person) if count else None
    given = sum(1 for _ in group_answers(answers.comparisons))
    verdict = verdict_of(_advice(answers, given), given, correct, count, ceiling.interval[1])
    return LearningReport(
        person=person,
        answers=given,
        predicted=count,
        correct=correct,
        accuracy=correct / count if count else None,
        interval=wilson_interval(correct, count),
        log_loss=float(np.mean([prediction.log_loss for prediction in predictions])) if count else None,
        recent_accuracy=float(np.mean(hits[-20:])) if count else None,
        hits=tuple(hits),
        curve=learning_curve(predictions),
        repeats=ceiling.repeats,
        ceiling=None if correct > count * (ceiling.accuracy or 1.0) else ceiling.accuracy,
        ceiling_interval=ceiling.interval,
        left_share=bias.share,
        left_interval=bias.interval,
        stranger_accuracy=None if others is None else stranger_accuracy(others, answers, predictions),
        verdict=verdict.name,
        enough=verdict.name == "enough",
        advice=verdict.text,
        worth=verdict.more,
    )


def measured_taste(
    store: PreferenceStore, encoder: Encoder, person: str, base: str = "", half_life: float | None = None
) -> Taste:
    """Learn a person's taste, and how well it foresaw them, as a file says both.

    Args:
        store, encoder, person, base, half_life: As `fit_taste` takes them.

    Raises:
        NotEnoughAnswersError, ShapeError: as `fit_taste` says.
    """
    taste = fit_taste(store, encoder, person, base=base, half_life=half_life)
    return replace(taste, accuracy=learned_report(store, encoder, person, half_life=half_life).measured)


def _advice(answers: Answers, given: int) -> Advice:
    if not given:
        return advise(None, np.zeros((0, 0)), 0)
    return advise(answers.fit(), _pictures(answers), given)


def _pictures(answers: Answers) -> Array:
    """(M, D) what was shown, each picture once."""
    rows: dict[str, Array] = {}
    for index, comparison in enumerate(answers.comparisons):
        rows.setdefault(comparison.left, answers.left[index])
        rows.setdefault(comparison.right, answers.right[index])
    return np.stack(list(rows.values()))
