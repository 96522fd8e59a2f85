"""A taste as a picture that carries its file: something to look at, post, and drop into Palate.

The picture is drawn from the taste's own numbers alone. The burst is its mark: the same taste, the same mark, and
tastes that agree look alike. No image that was compared and no prompt is in it.
"""

from __future__ import annotations

import io
import math
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..places import typed_path
from ..taste import Taste
from .picture import carry
from .taste_file import taste_bytes
from .writing import write_bytes_atomically

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

__all__ = ["mark_of", "save_taste_picture", "taste_mark", "taste_picture"]

WIDTH, HEIGHT = 960, 480  # px
RAYS = 96  # of the mark
_PAPER, _INK, _SOFT, _LINE = "#faf8f5", "#1d1b1a", "#6d6763", "#e4dfd8"
_WARM, _COOL = "#c8452e", "#3f6f8f"
_SCALE = 2  # drawn larger and made smaller, for smooth edges


def taste_mark(taste: Taste, rays: int = RAYS) -> Tensor:
    """Return the lengths of the mark's rays (rays,) in [-1, 1]; all 0 where nothing was learned.

    The direction is folded onto the rays by fixed random signs, so that the angle between two tastes is about that
    between their marks (Johnson-Lindenstrauss), whatever encoder they are of.
    """
    return mark_of(taste.direction, rays)


def mark_of(numbers: Tensor, rays: int = RAYS) -> Tensor:
    """Return the mark (rays,) of any numbers (N,), by their direction; all 0 for zeros."""
    direction = torch.nn.functional.normalize(numbers.float(), dim=0)
    generator = torch.Generator().manual_seed(len(direction))
    fold = torch.randn(rays, len(direction), generator=generator) / math.sqrt(rays)
    found: Tensor = torch.tanh(fold @ direction * math.sqrt(rays) / 1.5)
    return found


def taste_picture(taste: Taste) -> bytes:
    """Return a PNG of 960 x 480 pixels that carries the taste's file.

    Raises:
        ShapeError: the taste holds NaN.
    """
    from PIL import Image, ImageDraw

    content = taste_bytes(taste)
    image = Image.new("RGB", (WIDTH * _SCALE, HEIGHT * _SCALE), _PAPER)
    draw = ImageDraw.Draw(image)
    _draw_mark(draw, taste_mark(taste).tolist(), (HEIGHT // 2, HEIGHT // 2))
    _draw_words(draw, taste, HEIGHT + 8)
    buffer = io.BytesIO()
    image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS).save(buffer, "PNG", optimize=True)
    return carry(buffer.getvalue(), content)


def save_taste_picture(taste: Taste, path: str | PathLike[str]) -> Path:
    """Write the picture; `load_taste` reads it like the file.

    Args:
        taste: With or without a person's name in it.
        path: Of the PNG. A file of this name is replaced in one step.

    Raises:
        ShapeError: the taste holds NaN.
        StoreError: can't be written.
    """
    return write_bytes_atomically(typed_path(path), taste_picture(taste))


def _draw_mark(draw: ImageDraw, rays: list[float], centre: tuple[int, int]) -> None:
    inner, middle, reach = 62, 126, 76  # px: the hub, the circle that a ray of 0 ends on, the longest ray's way from it
    for number, length in enumerate(rays):
        angle = 2 * math.pi * (number / len(rays)) - math.pi / 2
        ends = []
        for radius in (inner, middle + reach * length):
            ends += [(centre[0] + radius * math.cos(angle)) * _SCALE, (centre[1] + radius * math.sin(angle)) * _SCALE]
        draw.line(ends, fill=_WARM if length >= 0 else _COOL, width=5 * _SCALE)


def _draw_words(draw: ImageDraw, taste: Taste, left: int) -> None:
    right, top = WIDTH - 48, 92
    _text(draw, (left, top), _drawable(taste.person) or "A taste", 46, _INK, right - left)
    answers = f"{taste.answers} answer{'' if taste.answers == 1 else 's'}"
    day = taste.created[:10]
    _text(draw, (left, top + 68), f"{answers}{' · ' if day else ''}{day}", 24, _SOFT, right - left)
    if taste.accuracy is not None:
        _draw_accuracy(draw, taste.accuracy, left, right, top + 124)
    fits = " · ".join(part for part in (_drawable(taste.encoder_name), _drawable(taste.base)) if part)
    _text(draw, (left, top + 226), f"Fits {fits}" if fits else "", 20, _SOFT, right - left)
    _text(draw, (left, top + 260), "Palate taste: drop this picture into Palate", 20, _SOFT, right - left)


def _draw_accuracy(draw: ImageDraw, accuracy: Any, left: int, right: int, top: int) -> None:
    def place(share: float) -> int:  # from a coin's 50 % to 100 %
        return round((left + (right - left) * min(max(2 * share - 1, 0.0), 1.0)) * _SCALE)

    _text(draw, (left, top), f"Foresees {100 * accuracy.share:.0f} % of the answers", 24, _INK, right - left)
    y = (top + 52) * _SCALE
    draw.rounded_rectangle((place(0.5), y - 5 * _SCALE, place(1.0), y + 5 * _SCALE), 5 * _SCALE, fill=_LINE)
    draw.rounded_rectangle(
        (place(accuracy.low), y - 5 * _SCALE, place(accuracy.high), y + 5 * _SCALE), 5 * _SCALE, _COOL
    )
    x, size = place(accuracy.share), 9 * _SCALE
    draw.ellipse((x - size, y - size, x + size, y + size), fill=_WARM)


def _text(draw: ImageDraw, place: tuple[int, int], text: str, size: int, colour: str, room: int) -> None:
    from PIL import ImageFont

    font = ImageFont.load_default(size * _SCALE)
    while text and draw.textlength(text, font=font) > room * _SCALE:
        text = text[:-2].rstrip("… ") + "…"
    draw.text((place[0] * _SCALE, place[1] * _SCALE), text, fill=colour, font=font)


def _drawable(text: str) -> str:
    """The text where Pillow's own font has all of it; a name in another script is inside the file all the same."""
    return text if all(" " <= letter <= "~" or "\u00a1" <= letter <= "\u00ff" for letter in text) else ""
