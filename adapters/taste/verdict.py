"""One voice about a taste: what more answers would add (`enough.py`) and what was measured, in one sentence.

The two can disagree. A posterior may expect that nothing is left to learn while too few answers were predicted to show
that anything was learned; or that more would add, beyond what a person who contradicts themselves lets be foreseen. So
"good enough" is said of a taste only that is surely better than a coin, and no more points are promised than there are.
"""

from __future__ import annotations

from dataclasses import dataclass

from .enough import WORTH, Advice, worth_it
from .shares import wilson_interval

__all__ = ["VERDICTS", "Verdict", "missing_tests", "verdict_of"]

VERDICTS = ("few", "more", "unproven", "nothing", "enough")
CLEAR = 0.57  # accuracy expected of a taste below which there is none to speak of
EXPECTED, GUESS = 0.75, 8.0  # accuracy expected of a new person, and how many predictions that guess counts
MOST = 60  # tests beyond which nobody can say when there will be enough
EVERY = 3.0  # answers for one that is predicted, where none was yet


@dataclass(frozen=True)
class Verdict:
    """What to do.

    Attributes:
        name: "few": too few answers to say; "more": they are worth it; "unproven": they teach hardly more, and would
            show whether what was learned is better than a coin; "nothing": no taste shows; "enough".
        text: one plain sentence.
        more: how many answers are worth it, about; 0 for "nothing" and "enough", None for "few".
    """

    name: str
    text: str
    more: int | None


def verdict_of(advice: Advice, answers: int, correct: float, predicted: int, possible: float = 1.0) -> Verdict:
    """Return the one thing to say.

    Args:
        advice: of `advise`, which knows nothing of what was measured.
        answers: how many there are.
        correct, predicted: how many were predicted before they were learned from, and how many of those rightly.
        possible: the most that a perfect taste may reach, as sure as the repeats make it; 1 where nothing is known.
    """
    if advice.more is None or advice.accuracy is None:
        return Verdict("few", advice.text, None)
    room = possible - advice.accuracy
    if not advice.enough and room >= WORTH:
        return Verdict("more", worth_it(advice.more, min(advice.points, room)), advice.more)
    if wilson_interval(correct, predicted)[0] > 0.5:
        return Verdict("enough", "Good enough: more clicks will hardly change it.", 0)
    tests = missing_tests(correct, predicted)
    if advice.accuracy < CLEAR or tests is None:
        # Answers that contradict each other teach nothing, and that isn't a taste that is good enough.
        return Verdict("nothing", "No clear taste shows yet, and more such answers would not change that.", 0)
    more = round(tests * max(1.0, answers / predicted if predicted else EVERY))
    text = f"More clicks will hardly change it; about {more} would show whether it is better than a coin."
    return Verdict("unproven", text, more)


def missing_tests(correct: float, predicted: int) -> int | None:
    """Return how many more predictions, as good as those so far, lift the whole 95 % interval above a coin's 50 %.

    None when that would take more than `MOST`. The accuracy so far is drawn towards what is usual, as few predictions
    say little.
    """
    accuracy = (correct + GUESS * EXPECTED) / (predicted + GUESS)
    for more in range(1, MOST + 1):
        if wilson_interval(correct + more * accuracy, predicted + more)[0] > 0.5:
            return more
    return None
