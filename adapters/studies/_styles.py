"""Looks that the playground's models never saw, at growing distance from what they paint, each with its own measure.

A style of colours paints every colour of the world's palette in another one; a line drawing is drawn anew. What a
styled picture shows is read after undoing the style, so that the same judge says whether the prompt was kept.

Shapes: P colours of the palette.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from ..playground.measure import measure, palette
from ..playground.shapes import outline_of
from ..playground.world import BACKGROUNDS, COLOURS, NAMED, SIZE, SIZES, Card, draw
from ._tables import Array

__all__ = ["STYLES", "SUBJECT", "Style", "picture_of"]

_PAPER = np.array([250, 240, 205]) / 255
_PEN = 5.0  # pixels
_INKED = 0.99  # quantile of the distances from paper that is ink, not a blend of both
SUBJECT = "two-coloured subject"
# Upper and lower half. The model's autoencoder knows both, but no postcard's subject has two: of colours that it never
# saw, such as lime and black, it makes others, and no silhouette is then read where even a drawn one was put through.
_HALVES = ("yellow", "blue")
_STAND_IN = "pink"  # what the two are before and after
_FINE = 3  # a line drawing is drawn this much larger and shrunk, for smooth edges


@dataclass(frozen=True)
class Style:
    """A look.

    Attributes:
        draw: A postcard in this style.
        share: How much of a picture has it, in [0, 1], from the pixels.
        undone: The picture as the world would have drawn it.
        reads: The properties that can still be read then.
    """

    draw: Callable[[Card], Image.Image]
    share: Callable[[Image.Image], float]
    undone: Callable[[Image.Image], Image.Image]
    reads: tuple[str, ...] = tuple(NAMED)

    def read(self, picture: Image.Image) -> tuple[Array, dict[str, str]]:
        """(1,) share, and the properties that the picture shows."""
        named = measure(self.undone(picture)).named()
        return np.array([self.share(picture)]), {name: named[name] for name in self.reads}


def pixels_of(picture: Image.Image) -> Array:
    """(SIZE, SIZE, 3) in [0, 1]."""
    shown = picture.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BOX)
    return np.asarray(shown, dtype=np.float64) / 255


def picture_of(pixels: Array) -> Image.Image:
    """The inverse, for values beyond [0, 1] the nearest."""
    return Image.fromarray((np.clip(pixels, 0.0, 1.0) * 255).round().astype(np.uint8))


def nearest(pixels: Array, colours: Array) -> npt.NDArray[np.int64]:
    """(H, W) which of (P, 3) colours each of (H, W, 3) pixels is nearest to."""
    # |p - c|^2 without the term that is the same for all colours.
    found: npt.NDArray[np.int64] = ((colours**2).sum(axis=1) - 2 * pixels @ colours.T).argmin(axis=2)
    return found


def _of_colours(paint: Callable[[Array], Array]) -> Style:
    """The style that paints each colour, (..., 3) in [0, 1], in another."""

    @functools.cache
    def both() -> tuple[Array, Array]:
        world = palette()[0]
        return world, np.concatenate([world, np.clip(paint(world), 0.0, 1.0)])

    def share(picture: Image.Image) -> float:
        world, all_colours = both()
        return float((nearest(pixels_of(picture), all_colours) >= len(world)).mean())

    def undone(picture: Image.Image) -> Image.Image:
        (world, all_colours), pixels = both(), pixels_of(picture)
        found = nearest(pixels, all_colours)
        styled = found >= len(world)
        # What is still as the world draws it stays.
        pixels[styled] = world[found[styled] - len(world)]
        return picture_of(pixels)

    return Style(lambda card: picture_of(paint(pixels_of(draw(card)))), share, undone)


def _line_drawing(card: Card) -> Image.Image:
    """The subject's outline in its colour on paper."""
    big = SIZE * _FINE
    image = Image.new("RGB", (big, big), tuple(round(255 * value) for value in _PAPER))
    pen = ImageDraw.Draw(image)
    middle = (card.centre[0] * _FINE, card.centre[1] * _FINE)
    for polygon in outline_of(card.subject, middle, SIZES[card.size] * _FINE, card.tilt):
        # Over the first corner again, for a joint there, too.
        pen.line([*polygon, *polygon[:2]], fill=COLOURS[card.colour], width=round(_PEN * _FINE), joint="curve")
    return image.reduce(_FINE)


def _lines(pixels: Array) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """The lines, and what cannot be reached from the edge without crossing one: (H, W) each."""
    far = np.sqrt(((pixels - _PAPER) ** 2).sum(axis=2))
    # A blurred line ends where it is half paper.
    lines = far > 0.5 * np.quantile(far, _INKED)
    # A copy, because a picture that shares memory with an array can't be written to.
    sheet = Image.fromarray(np.pad(~lines, 1, constant_values=True).astype(np.uint8) * 255).copy()
    ImageDraw.floodfill(sheet, (0, 0), 128)
    return lines, np.asarray(sheet)[1:-1, 1:-1] != 128


def _drawn_in_lines(picture: Image.Image) -> float:
    """Share of paper times share of what the lines enclose that is paper: a filled subject is no drawing."""
    pixels, world = pixels_of(picture), palette()[0]
    paper = nearest(pixels, np.concatenate([world, _PAPER[None]])) == len(world)
    within = _lines(pixels)[1]
    return float(paper.mean() * (paper & within).sum() / max(1, within.sum()))


def _filled(picture: Image.Image) -> Image.Image:
    """What the lines enclose, filled with their colour, on a plain background."""
    pixels = pixels_of(picture)
    lines, within = _lines(pixels)
    filled = np.empty_like(pixels)
    filled[...] = np.array(BACKGROUNDS["snow"]) / 255
    if lines.any():
        # Lines pale towards their edges: their colour is that of the tenth that is least like paper.
        far = ((pixels - _PAPER) ** 2).sum(axis=2)
        filled[within] = pixels[lines & (far >= np.quantile(far[lines], 0.9))].mean(axis=0)
    return picture_of(filled)


def _classes(pixels: Array) -> npt.NDArray[np.int64]:
    """(H, W) the class of the world's colour that each pixel is nearest to."""
    world, classes = palette()
    found: npt.NDArray[np.int64] = classes[nearest(pixels, world)]
    return found


def _two_coloured(card: Card) -> Image.Image:
    """The postcard with a large subject whose upper half is yellow and whose lower half is blue."""
    pixels = pixels_of(draw(replace(card, colour=_STAND_IN, shaded=False, size="large")))
    subject = _classes(pixels) == list(COLOURS).index(_STAND_IN)
    rows = np.nonzero(subject.any(axis=1))[0]
    upper = np.arange(SIZE)[:, None] < (rows[0] + rows[-1] + 1) / 2
    pixels[subject & upper], pixels[subject & ~upper] = (np.array(COLOURS[name]) / 255 for name in _HALVES)
    return picture_of(pixels)


def _halves(pixels: Array) -> npt.NDArray[np.bool_]:
    """(2, H, W) what is yellow and what is blue."""
    found = _classes(pixels)
    return np.stack([found == list(COLOURS).index(name) for name in _HALVES])


def _in_two_colours(picture: Image.Image) -> float:
    """How even the two colours are, 1 for halves; 0 where yellow isn't above blue, or one covers less than 0.5 %."""
    upper, lower = _halves(pixels_of(picture))
    sizes = upper.sum(), lower.sum()
    if min(sizes) < 0.005 * SIZE**2 or np.nonzero(upper)[0].mean() > np.nonzero(lower)[0].mean():
        return 0.0
    return float(2 * min(sizes) / sum(sizes))


def _in_one_colour(picture: Image.Image) -> Image.Image:
    pixels = pixels_of(picture)
    pixels[_halves(pixels).any(axis=0)] = np.array(COLOURS[_STAND_IN]) / 255
    return picture_of(pixels)


STYLES: Mapping[str, Style] = MappingProxyType(
    {
        "winter": _of_colours(lambda x: 0.5 * x + 0.5 * np.array([0.86, 0.93, 1.0])),
        "dusk": _of_colours(lambda x: x * np.array([0.5, 0.4, 0.62])),
        "negative": _of_colours(lambda x: 1.0 - x),
        "line drawing": Style(_line_drawing, _drawn_in_lines, _filled, ("subject", "colour", "size", "place")),
        SUBJECT: Style(_two_coloured, _in_two_colours, _in_one_colour, ("subject", "background", "place")),
        "moss": _of_colours(lambda x: 0.6 * x + 0.4 * np.array([0.2, 0.4, 0.1])),
    }
)
"""Growing apart but for the last two: a look of the subject alone, and one that rates are set on, in no table."""
