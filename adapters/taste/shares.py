"""Shares of answers and how sure they are."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Accuracy", "wilson_interval"]


@dataclass(frozen=True)
class Accuracy:
    """How often a taste foresaw answers of its person that it had not learned from.

    Attributes:
        share: In [0, 1]; a coin gets 0.5. low, high: 95 % interval.
        predicted: How many answers, >= 1.
    """

    share: float
    low: float
    high: float
    predicted: int

    def __str__(self) -> str:
        low, high = round(100 * self.low), round(100 * self.high)
        return f"{100 * self.share:.0f} % of {self.predicted} answers ({low} to {high}; a coin gets 50)"


def wilson_interval(correct: float, count: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of a share; (0, 1) for no trials. Source: Wilson 1927."""
    if count == 0:
        return 0.0, 1.0
    share, spread = correct / count, z * z / count
    centre = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    # At 0 and 1 the interval ends there exactly, whatever rounding says.
    return min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half))
