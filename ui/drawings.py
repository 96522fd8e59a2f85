"""Numbers of a file as drawings in HTML, for its card."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["bars", "mark"]

_WARM, _COOL = "#c8452e", "#3f6f8f"
_SIZE = 420  # px


def mark(numbers: Tensor) -> str:
    """The rays of `taste_picture`'s mark: the same numbers, the same mark."""
    from ..adapters.files.taste_picture import mark_of

    rays, middle = mark_of(numbers), _SIZE / 2
    parts = []
    for place, length in enumerate(rays.tolist()):
        angle = 2 * math.pi * place / len(rays) - math.pi / 2
        ends = [
            middle + radius * side for radius in (60, 122 + 74 * length) for side in (math.cos(angle), math.sin(angle))
        ]
        x, y, to_x, to_y = (f"{end:.1f}" for end in ends)
        colour = _WARM if length >= 0 else _COOL
        parts.append(f'<line x1="{x}" y1="{y}" x2="{to_x}" y2="{to_y}" stroke="{colour}" stroke-width="5"/>')
    return _svg("".join(parts), _SIZE, "The mark of its numbers: the same numbers, the same mark")


def bars(values: Sequence[float], what: str) -> str:
    """One bar a value."""
    most = max(values, default=0.0) or 1.0
    wide = 2 * _SIZE / max(1, len(values))
    parts = [
        f'<rect x="{place * wide:.2f}" y="{160 * (1 - value / most):.1f}" width="{max(0.5, 0.8 * wide):.2f}" '
        f'height="{160 * value / most:.1f}" fill="{_COOL}"/>'
        for place, value in enumerate(values)
    ]
    return f"{_svg(''.join(parts), 160, what)}<p>{escape(what)} (at most {most:.3g}).</p>"


def _svg(inside: str, height: int, what: str) -> str:
    width = height if height == _SIZE else 2 * _SIZE
    return f'<svg viewBox="0 0 {width} {height}" width="{width}" role="img" aria-label="{escape(what)}">{inside}</svg>'
