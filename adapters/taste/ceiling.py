"""How well a perfect taste could predict a person, told from pairs that they answered twice.

People do not always agree with themselves. Write p_i for the probability that the answer to pair i is the one that the
person gives more often, and d_i = 2 p_i - 1. No taste can predict better than mean(p_i); the same pair asked twice gets
the same answer with probability p_i^2 + (1 - p_i)^2 = (1 + d_i^2) / 2. So the agreement r with oneself knows the mean
of d_i^2, the ceiling needs the mean of d_i, and as 0 <= d_i <= 1 it lies between two ends:

    r            (1 + mean d^2) / 2            every pair either sure or a coin
    equal(r)     (1 + sqrt(2 r - 1)) / 2       every pair equally hard: r = p^2 + (1 - p)^2, solved for p

For Bradley-Terry answers with Normal log-odds it lies two thirds of the way up, within 0.7 points from r = 0.58 to 1
(at r = 0.818: 0.872, between 0.818 and 0.899). That is what `accuracy_ceiling` returns.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import torch

from ..comparisons import Comparison, PreferenceStore
from .shares import wilson_interval

__all__ = ["REPEAT", "SECOND_LOOK", "Ceiling", "accuracy_ceiling", "ceiling_of", "equal_accuracy", "pair_to_repeat"]

REPEAT = "panel:repeat"  # source of a pair that was asked again to see whether the answer stays
SECOND_LOOK = "panel:second-look"  # source of a pair asked again because its answer looked like a mistake

FEWEST = 5  # repeats below which nothing is said
FIRST = 10  # answers before the first repeat
EVERY = 15  # answers from one repeat to the next
_APART = 6  # answers between the two times, so that it isn't memory that answers
_NEWEST = 300  # answers among which one is picked

_DECIDED = ("left", "right")
_UP = 2.0 / 3.0  # of the way from r to equal(r)


@dataclass(frozen=True)
class Ceiling:
    """What the repeats say.

    Attributes:
        repeats: pairs that were decided twice.
        agreed: how many of them the same way.
        accuracy: that a perfect taste could reach, in [0.5, 1]; None below `FEWEST` repeats.
        interval: 95 %, from Wilson's of the agreement; (0.5, 1) below `FEWEST`.
    """

    repeats: int = 0
    agreed: int = 0
    accuracy: float | None = None
    interval: tuple[float, float] = (0.5, 1.0)


def equal_accuracy(agreement: float) -> float:
    """Return p of agreement = p^2 + (1 - p)^2; 0.5 where people agree with themselves less often than a coin."""
    return 0.5 + 0.5 * math.sqrt(max(0.0, 2.0 * min(agreement, 1.0) - 1.0))


def accuracy_ceiling(agreement: float) -> float:
    """Return the accuracy that a perfect taste reaches on someone who repeats this share [0, 1] of their answers."""
    certain = min(max(agreement, 0.5), 1.0)
    return certain + _UP * (equal_accuracy(certain) - certain)


def ceiling_of(comparisons: Iterable[Comparison], uncounted: Collection[str] = ()) -> Ceiling:
    """Return the ceiling told by a person's answers, oldest first.

    Every two decided answers in a row to the same two pictures are one repeat, whichever side they were on. Ties say
    nothing here: accuracy does not count them either. Second looks are left out, as they were picked for the first
    answer being odd.

    Args:
        uncounted: Sources of pairs that accuracy leaves out; repeats of those are left out here, too, so that both are
            about the same kind of pair.
    """
    first: dict[frozenset[str], tuple[str, bool]] = {}
    repeats = agreed = 0
    for comparison in comparisons:
        if comparison.outcome not in _DECIDED or comparison.source == SECOND_LOOK:
            continue
        pair, chosen = frozenset((comparison.left, comparison.right)), str(comparison.chosen)
        before = first.get(pair)
        counts = comparison.source not in uncounted if before is None else before[1]
        if before is not None and counts:
            repeats += 1
            agreed += before[0] == chosen
        first[pair] = (chosen, counts)
    if repeats < FEWEST:
        return Ceiling(repeats, agreed)
    low, high = wilson_interval(agreed, repeats)
    return Ceiling(repeats, agreed, accuracy_ceiling(agreed / repeats), (accuracy_ceiling(low), accuracy_ceiling(high)))


def pair_to_repeat(
    store: PreferenceStore,
    person: str,
    uncounted: Collection[str] = (),
    generator: torch.Generator | None = None,
) -> Comparison | None:
    """Return an earlier answer whose pair is worth asking again now, with sides swapped; None when it isn't time.

    Time is after `FIRST` answers and then about once in `EVERY`; a pair is repeated once, and not right after it was
    answered. It is drawn by chance among the decided pairs that accuracy counts. An offer of the source `REPEAT` that
    still waits is enough.

    Args:
        uncounted: Sources that accuracy leaves out, as for `learned_report`.
        generator: Without one each call is different.
    """
    newest = [c for c in store.newest(person, _NEWEST) if c.outcome != "skip"]
    since = next((index for index, c in enumerate(newest) if c.source == REPEAT), None)
    due = len(newest) >= FIRST if since is None else since >= EVERY - 1
    if not due or store.offers(person, source=REPEAT):
        return None
    asked: dict[frozenset[str], int] = {}
    for comparison in newest:
        pair = frozenset((comparison.left, comparison.right))
        asked[pair] = asked.get(pair, 0) + 1
    candidates = [
        c
        for c in newest[_APART:]
        if c.outcome in _DECIDED
        and c.source not in uncounted
        and c.ranking is None
        and asked[frozenset((c.left, c.right))] == 1
    ]
    if generator is None:
        generator = torch.Generator()
        generator.seed()
    for index in torch.randperm(len(candidates), generator=generator).tolist():
        found: Comparison = candidates[index]
        if store.has_image(found.left) and store.has_image(found.right):
            return found
    return None
