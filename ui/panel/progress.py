"""How far a person has come, in one line: honest, from what their answers tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...adapters.taste.report import wilson_interval

if TYPE_CHECKING:
    from ...adapters.taste import LearningReport

__all__ = ["FIRST_LOOK", "Progress", "progress_of"]

FIRST_LOOK = 10  # answers
EXPECTED, WORTH = 0.75, 8.0  # accuracy expected of a new person, and how many predictions that guess counts
MOST = 60  # tests beyond which nobody can say when there will be enough
EVERY = 3  # one pair in so many is a test


@dataclass(frozen=True)
class Progress:
    """How many answers there are, what they are good for, and the share of the way to the next milestone."""

    answers: int
    text: str
    share: float


def progress_of(answers: int, report: LearningReport | None) -> Progress:
    """Return the milestone ahead.

    The first is a number of answers. The second is a taste that is surely better than a coin, on pairs drawn by
    chance; how many more it takes is estimated from how well the answers were predicted so far. There the way ends.

    Args:
        answers: How many comparisons say something about the taste.
        report: On pairs drawn by chance, as of now or a few answers ago; None when there is none yet.
    """
    if answers == 0:
        return Progress(0, f"{FIRST_LOOK} answers for a first look at your taste", 0.0)
    if answers < FIRST_LOOK:
        more = FIRST_LOOK - answers
        return Progress(answers, f"{more} more for a first look at your taste", answers / FIRST_LOOK)
    if report is None:
        return Progress(answers, "", 0.0)
    if report.better_than_coin and report.accuracy is not None:
        return Progress(answers, f"your taste foresees {100 * report.accuracy:.0f}\u00a0%", 1.0)
    tests = missing_tests(report.correct, report.predicted)
    if tests is None:
        return Progress(answers, "no clear taste yet; more will tell", 0.0)
    more = EVERY * tests
    return Progress(answers, f"about {more} more and your taste is sure", answers / (answers + more))


def missing_tests(correct: float, predicted: int) -> int | None:
    """Return how many more predictions, as good as those so far, lift the whole 95 % interval above a coin's 50 %.

    None when that would take more than `MOST`. The accuracy so far is drawn towards what is usual, as few predictions
    say little.
    """
    accuracy = (correct + WORTH * EXPECTED) / (predicted + WORTH)
    for more in range(1, MOST + 1):
        if wilson_interval(correct + more * accuracy, predicted + more)[0] > 0.5:
            return more
    return None
