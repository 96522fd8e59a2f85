"""Whether a person leans to one side of the screen, whatever is there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..comparisons import Comparison
from .shares import wilson_interval

__all__ = ["SideBias", "side_bias"]

FEWEST = 5  # answers below which nothing is said


@dataclass(frozen=True)
class SideBias:
    """How often the left one of two was preferred.

    Attributes:
        answers: decided pairs whose sides were tossed.
        share: of them the left one was preferred in, [0, 1]; None below `FEWEST`.
        interval: 95 % Wilson interval; (0, 1) below `FEWEST`.
    """

    answers: int = 0
    share: float | None = None
    interval: tuple[float, float] = (0.0, 1.0)


def side_bias(comparisons: Iterable[Comparison]) -> SideBias:
    """Return the share of answers that went to the left.

    Only where a coin decided which picture goes left does it speak of the person and not of the pictures: the panel
    tosses one for every pair, a graph in ComfyUI shows what was wired to the left on the left. So the panel's pairs
    count; answers about more than two pictures have no two sides.
    """
    sides = [
        c.outcome == "left"
        for c in comparisons
        if c.outcome in ("left", "right") and c.source.partition(":")[0] == "panel" and c.ranking is None
    ]
    if len(sides) < FEWEST:
        return SideBias(len(sides))
    return SideBias(len(sides), sum(sides) / len(sides), wilson_interval(sum(sides), len(sides)))
