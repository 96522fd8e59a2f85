"""Shares of answers and how sure they are."""

from __future__ import annotations

import math

__all__ = ["wilson_interval"]


def wilson_interval(correct: float, count: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of a share; (0, 1) for no trials. Source: Wilson 1927."""
    if count == 0:
        return 0.0, 1.0
    share, spread = correct / count, z * z / count
    centre = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    # At 0 and 1 the interval ends there exactly, whatever rounding says.
    return min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half))
