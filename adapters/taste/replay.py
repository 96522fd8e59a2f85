"""A person's answers again from the first on, each predicted before it is learned from (prequential, Dawid 1984)."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..comparisons import Comparison
from .arrays import to_array
from .bradley_terry import BradleyTerry
from .person import Answers
from .prior import Prior
from .shares import wilson_interval

__all__ = ["Prediction", "group_answers", "learning_curve", "replay"]

_POINTS = 60


@dataclass(frozen=True)
class Prediction:
    """One answer and what was expected of it.

    Attributes:
        given: answers before this one.
        rows: which of `Answers.comparisons` it is; several for a ranking, those pairs that had not been asked before.
        probabilities: P(what was answered), one per row.
    """

    given: int
    rows: tuple[int, ...]
    probabilities: tuple[float, ...]

    @property
    def hit(self) -> float:
        """1 right, 0 wrong, 0.5 an even guess; for a ranking the mean over its pairs."""
        return sum(hit_of(probability) for probability in self.probabilities) / len(self.probabilities)

    @property
    def log_loss(self) -> float:
        """-log P, in nats; for a ranking the mean over its pairs."""
        clipped = np.maximum(self.probabilities, 1e-12)
        return float(-np.log(clipped).mean())


def hit_of(probability: float) -> float:
    """1 where what was answered was thought likelier, 0.5 for an even guess, else 0."""
    return 0.5 if probability == 0.5 else float(probability > 0.5)


def group_answers(comparisons: tuple[Comparison, ...]) -> Iterator[range]:
    """The rows of each answer: one for a pair, all that a ranking implies for a ranking."""
    start = 0
    for _key, group in itertools.groupby(enumerate(comparisons), key=_answer):
        count = sum(1 for _ in group)
        yield range(start, start + count)
        start += count


def _answer(numbered: tuple[int, Comparison]) -> tuple[str, int]:
    index, comparison = numbered
    ranking = comparison.ranking
    return ("pair", index) if ranking is None else ("ranking", ranking)


def replay(answers: Answers, uncounted: Collection[str] = ()) -> list[Prediction]:
    """Predict each answer from those before it.

    Left out are the first answer, ties, sources that don't count, and pairs that had been asked before. The model is
    fitted again after every answer up to 40, then each time the answers grew by a twentieth, from 400 on by a tenth.
    """
    found: list[Prediction] = []
    waiting: list[tuple[int, tuple[int, ...]]] = []  # for a prediction by the model: one call for many is a fifth
    seen: set[frozenset[str]] = set()
    model, fitted_on, tuned_on = BradleyTerry(), 0, 0
    prior: Prior | None = None
    for given, rows in enumerate(group_answers(answers.comparisons)):
        asked = [(row, answers.comparisons[row]) for row in rows]
        tested = tuple(
            row
            for row, c in asked
            if c.outcome != "tie" and c.source not in uncounted and frozenset((c.left, c.right)) not in seen
        )
        if given > 0 and tested:
            if given - fitted_on >= _worth_fitting(given):
                found += _predicted(model, answers, waiting)
                waiting = []
                if prior is None or given >= 1.5 * tuned_on:
                    prior, tuned_on = answers.prior(rows.start), given
                model, fitted_on = answers.fit(rows.start, prior), given
            waiting.append((given, tested))
        seen.update(frozenset((c.left, c.right)) for _, c in asked)
    return found + _predicted(model, answers, waiting)


def _worth_fitting(given: int) -> int:
    """How many new answers are worth a fit."""
    return 1 if given <= 40 else given // 20 if given <= 400 else given // 10


def _predicted(model: BradleyTerry, answers: Answers, asked: Sequence[tuple[int, tuple[int, ...]]]) -> list[Prediction]:
    """What the model expects of answers: how many came before each, and its rows."""
    if not asked:
        return []
    every = [row for _, rows in asked for row in rows]
    left = to_array("left", model.predict_proba(answers.left[every], answers.right[every]))
    won = [answers.comparisons[row].outcome == "left" for row in every]
    probability = {row: float(p if first else 1.0 - p) for row, p, first in zip(every, left, won, strict=True)}
    return [Prediction(given, rows, tuple(probability[row] for row in rows)) for given, rows in asked]


def learning_curve(predictions: list[Prediction]) -> tuple[tuple[int, float, float, float], ...]:
    """Return (answers, accuracy, low, high) for a plot: how well the taste predicted, as the answers grew.

    Each point is over all predictions so far, so that the last one is the accuracy of the report. low and high are
    Wilson's 95 % interval. At most 60 points, the newest always one of them.
    """
    hits = [prediction.hit for prediction in predictions]
    ends = sorted({round(end) for end in np.linspace(1, len(hits), min(len(hits), _POINTS))})
    points = []
    for end in ends:
        correct = sum(hits[:end])
        points.append((predictions[end - 1].given + 1, correct / end, *wilson_interval(correct, end)))
    return tuple(points)
