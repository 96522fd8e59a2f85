"""How far a person has come, in one line: honest, from what their answers tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...adapters.taste.verdict import missing_tests

if TYPE_CHECKING:
    from ...adapters.taste import LearningReport

__all__ = ["FIRST_LOOK", "Progress", "progress_of"]

FIRST_LOOK = 10  # answers
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
    if report is None or report.verdict == "few":
        return Progress(answers, "", 0.0)
    if report.better_than_coin and report.accuracy is not None:
        return Progress(answers, f"your taste foresees {100 * report.accuracy:.0f}\u00a0%", 1.0)
    tests = None if report.verdict == "nothing" else missing_tests(report.correct, report.predicted)
    if tests is None:
        return Progress(answers, "no clear taste yet", 0.0)
    more = EVERY * tests
    return Progress(answers, f"about {more} more and your taste is sure", answers / (answers + more))
