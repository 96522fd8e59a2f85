"""The silhouettes that a postcard can show, as polygons around the origin: x to the right, y down, within [-1, 1]."""

from __future__ import annotations

import math
from collections.abc import Sequence

Polygon = list[tuple[float, float]]

__all__ = ["SUBJECTS", "outline_of", "turned"]


def _circle(x: float, y: float, radius: float, start: float = 0.0, stop: float = 360.0, points: int = 48) -> Polygon:
    angles = [math.radians(start + (stop - start) * k / points) for k in range(points + 1)]
    return [(x + radius * math.cos(a), y + radius * math.sin(a)) for a in angles]


def _star() -> Polygon:
    corners = []
    for k in range(10):
        radius = 1.0 if k % 2 == 0 else 0.42
        angle = math.radians(-90 + 36 * k)
        corners.append((radius * math.cos(angle), radius * math.sin(angle)))
    return corners


def _heart() -> Polygon:
    points = []
    for k in range(60):
        t = 2 * math.pi * k / 60
        x = 16 * math.sin(t) ** 3
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((x / 17, -(y + 2.5) / 15.5))
    return points


def _moon() -> Polygon:
    # The outer edge of a disc, then back along the edge of a second disc that bites into it from the right.
    outer = _circle(0.1, 0.0, 0.95, 52, 308)
    bite = _circle(0.58, 0.0, 0.76, 259, 101)
    return outer + bite


SUBJECTS: dict[str, list[Polygon]] = {
    "ball": [_circle(0, 0, 0.88)],
    "star": [_star()],
    "heart": [_heart()],
    "house": [[(-0.72, 0.88), (-0.72, 0.0), (-0.98, 0.0), (0.0, -0.95), (0.98, 0.0), (0.72, 0.0), (0.72, 0.88)]],
    "tree": [
        [(0.0, -1.0), (0.55, -0.3), (-0.55, -0.3)],
        [(0.0, -0.65), (0.8, 0.5), (-0.8, 0.5)],
        [(-0.17, 0.45), (0.17, 0.45), (0.17, 0.98), (-0.17, 0.98)],
    ],
    "fish": [
        [(-0.2 + 0.72 * math.cos(a / 24 * math.pi), 0.52 * math.sin(a / 24 * math.pi)) for a in range(48)],
        [(0.3, 0.0), (0.98, -0.55), (0.98, 0.55)],
    ],
    "moon": [_moon()],
    "boat": [
        [(-0.98, 0.35), (0.98, 0.35), (0.6, 0.85), (-0.6, 0.85)],
        [(-0.02, -0.95), (-0.02, 0.22), (-0.78, 0.22)],
        [(0.1, -0.7), (0.1, 0.22), (0.66, 0.22)],
    ],
}


def turned(polygons: Sequence[Polygon], degrees: float) -> list[Polygon]:
    """Turn polygons around the origin; positive degrees are clockwise on the screen."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return [[(x * cos - y * sin, x * sin + y * cos) for x, y in polygon] for polygon in polygons]


def outline_of(subject: str, centre: tuple[float, float], radius: float, degrees: float = 0.0) -> list[Polygon]:
    """Place a subject: its polygons in pixels.

    Args:
        subject: One of SUBJECTS.
        centre: Where its origin lies, (x, y) in pixels.
        radius: Half its width in pixels.
        degrees: How far it is turned, clockwise.
    """
    polygons = turned(SUBJECTS[subject], degrees)
    return [[(centre[0] + radius * x, centre[1] + radius * y) for x, y in polygon] for polygon in polygons]
