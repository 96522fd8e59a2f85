"""The postcards of the playground: what they can show, and how one is drawn.

A card has six properties that captions may name (`NAMED`) and six that they never do (`UNNAMED`), so that two cards
of one caption differ in ways a person can like or dislike.
"""

from __future__ import annotations

import functools
import random
from dataclasses import dataclass, fields

import numpy as np
from PIL import Image, ImageDraw

from .shapes import SUBJECTS, outline_of

__all__ = ["NAMED", "SIZE", "UNNAMED", "Card", "draw", "held_out", "random_card"]

SIZE = 128  # pixels, of the cards that the models are trained on
_SMOOTH = 3  # a card is drawn this much larger and shrunk, for smooth edges

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (222, 40, 44),
    "orange": (246, 132, 24),
    "yellow": (252, 214, 22),
    "green": (30, 158, 66),
    "cyan": (12, 186, 196),
    "blue": (32, 78, 216),
    "purple": (132, 40, 184),
    "pink": (244, 70, 162),
}
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "snow": (244, 246, 250),
    "sky": (150, 206, 250),
    "mint": (158, 232, 178),
    "rose": (252, 180, 190),
    "sand": (238, 212, 146),
    "night": (30, 32, 74),
    "slate": (112, 120, 132),
}
PATTERNS = ("plain", "striped", "dotted", "checked")
SIZES: dict[str, float] = {"small": 21.0, "large": 37.0}  # pixels: half the subject's width
PLACES: dict[str, tuple[float, float]] = {  # direction from the middle of the card
    "centre": (0.0, 0.0),
    "left": (-1.0, 0.0),
    "right": (1.0, 0.0),
    "top": (0.0, -1.0),
    "bottom": (0.0, 1.0),
}
SHIFT: dict[str, float] = {"small": 33.0, "large": 21.0}  # pixels from the middle, so that the subject stays inside

NAMED: dict[str, tuple[str, ...]] = {
    "subject": tuple(SUBJECTS),
    "colour": tuple(COLOURS),
    "background": tuple(BACKGROUNDS),
    "pattern": PATTERNS,
    "size": tuple(SIZES),
    "place": tuple(PLACES),
}
DIRECTIONS = ("upright", "level", "slanted")  # of stripes
PERIODS = (16, 24)  # pixels
TILT = 12.0  # degrees, the most that a subject is turned
FRAME = 6  # pixels, the white border of a framed card
STICKER = 3.5  # pixels, the white edge around a subject
SHADE = 0.62  # how dark the lower end of a shaded subject is, relative to its colour
UNNAMED = ("tilt", "sticker", "frame", "shaded", "period", "direction")


@dataclass(frozen=True)
class Card:
    """All that there is to know about one postcard.

    The first six fields are what a caption may name; the rest vary by themselves. `tilt` is in degrees, clockwise,
    within ±TILT; `period` in pixels; `phase` and `jitter` in pixels, (x, y).
    """

    subject: str
    colour: str
    background: str
    pattern: str
    size: str
    place: str
    tilt: float = 0.0
    sticker: bool = False
    frame: bool = False
    shaded: bool = False
    period: int = 24
    direction: str = "upright"
    phase: tuple[int, int] = (0, 0)
    jitter: tuple[float, float] = (0.0, 0.0)

    @property
    def centre(self) -> tuple[float, float]:
        """Where the subject's origin lies, (x, y) in pixels of a card of SIZE."""
        direction, shift = PLACES[self.place], SHIFT[self.size]
        x, y = (SIZE / 2 + d * shift + j for d, j in zip(direction, self.jitter, strict=True))
        return x, y

    def named(self) -> dict[str, str]:
        """The six properties that a caption may name, by their names."""
        return {name: getattr(self, name) for name in NAMED}


def held_out(card: Card) -> bool:
    """Whether the card's subject, colour and background together are kept away from all training (one in eight)."""
    places = [NAMED[name].index(getattr(card, name)) for name in ("subject", "colour", "background")]
    return (places[0] + 3 * places[1] + 5 * places[2]) % 8 == 0


def random_card(rng: random.Random, **fixed: object) -> Card:
    """Draw a card's properties by chance, each value of a property as likely as the others.

    Args:
        rng: The same state gives the same card.
        fixed: Fields of `Card` that are given.

    Raises:
        ValueError: a card has no such field.
    """
    chosen: dict[str, object] = {name: rng.choice(values) for name, values in NAMED.items()}
    chosen |= {
        "tilt": rng.uniform(-TILT, TILT),
        "sticker": rng.random() < 0.4,
        "frame": rng.random() < 0.35,
        "shaded": rng.random() < 0.4,
        "period": rng.choice(PERIODS),
        "direction": rng.choice(DIRECTIONS),
        "phase": (8 * rng.randrange(3), 8 * rng.randrange(3)),
        "jitter": (rng.uniform(-3, 3), rng.uniform(-3, 3)),
    }
    unknown = set(fixed) - {field.name for field in fields(Card)}
    if unknown:
        raise ValueError(f"Cannot draw a card: it has no property {', '.join(sorted(unknown))}.")
    return Card(**(chosen | fixed))  # type: ignore[arg-type]


def second_tone(background: str) -> tuple[int, int, int]:
    """The tone that a pattern is drawn in: lighter than a dark background, darker than a light one."""
    base = np.array(BACKGROUNDS[background], dtype=float)
    dark = base.mean() < 160
    tone = base + 0.30 * (255 - base) if dark else base * 0.80
    return tuple(round(float(value)) for value in tone)  # type: ignore[return-value]


@functools.lru_cache(maxsize=256)
def pattern_mask(pattern: str, period: int, direction: str, phase: tuple[float, float], scale: int = 1) -> np.ndarray:
    """Where a pattern shows its second tone.

    Args:
        pattern: One of `PATTERNS`.
        period: Pixels until it repeats.
        direction: Of stripes, one of `DIRECTIONS`.
        phase: Pixels (x, y) that it is moved by.
        scale: Pixels drawn for each of the postcard's.

    Returns:
        (SIZE * scale, SIZE * scale) of bool; kept for the next call, so not to be written to.
    """
    steps = (np.arange(SIZE * scale) + 0.5) / scale
    x, y = np.meshgrid(steps + phase[0], steps + phase[1])
    if pattern == "plain":
        return np.zeros_like(x, dtype=bool)
    if pattern == "striped":
        along = {"upright": x, "level": y, "slanted": (x + y) / np.sqrt(2)}[direction]
        return np.asarray((along % period) < period / 2)
    if pattern == "checked":
        return np.asarray(((x % period) < period / 2) ^ ((y % period) < period / 2))
    dx, dy = x % period - period / 2, y % period - period / 2
    return np.asarray(dx**2 + dy**2 < (0.31 * period) ** 2)


def draw(card: Card, size: int = SIZE) -> Image.Image:
    """Draw a postcard.

    Args:
        card: What it shows.
        size: Width and height in pixels.

    Returns:
        An RGB image; the same card gives the same pixels.
    """
    big = SIZE * _SMOOTH
    image = Image.new("RGB", (big, big), BACKGROUNDS[card.background])
    if card.pattern != "plain":
        mask = pattern_mask(card.pattern, card.period, card.direction, card.phase, _SMOOTH)
        image.paste(second_tone(card.background), mask=Image.fromarray(mask))

    centre = (card.centre[0] * _SMOOTH, card.centre[1] * _SMOOTH)
    polygons = outline_of(card.subject, centre, SIZES[card.size] * _SMOOTH, card.tilt)
    if card.sticker:
        pen = ImageDraw.Draw(image)
        for polygon in polygons:
            pen.polygon(polygon, fill="white")
            pen.line([*polygon, polygon[0]], fill="white", width=round(2 * STICKER * _SMOOTH), joint="curve")
    silhouette = Image.new("L", (big, big))
    pen = ImageDraw.Draw(silhouette)
    for polygon in polygons:
        pen.polygon(polygon, fill=255)
    image.paste(_paint(card, big), mask=silhouette)
    if card.frame:
        pen = ImageDraw.Draw(image)
        pen.rectangle((0, 0, big - 1, big - 1), outline="white", width=FRAME * _SMOOTH)
    return image.reduce(_SMOOTH) if size == SIZE else image.resize((size, size), Image.Resampling.LANCZOS)


def _paint(card: Card, big: int) -> Image.Image | tuple[int, int, int]:
    """What the subject is filled with: its colour, or that colour darkening towards the subject's lower end."""
    colour = COLOURS[card.colour]
    if not card.shaded:
        return colour
    radius = SIZES[card.size]
    depth = (np.arange(big) / _SMOOTH - (card.centre[1] - radius)) / (2 * radius)
    rows = 1 - (1 - SHADE) * np.clip(depth, 0, 1)
    column = (rows[:, None, None] * np.array(colour, dtype=float)).round().astype(np.uint8)
    return Image.fromarray(column).resize((big, big), Image.Resampling.NEAREST)
