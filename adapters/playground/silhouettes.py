"""Which subject a silhouette is most like, where it is and how large.

It is compared with each drawn one in a frame of its own, which makes place and size drop out.
"""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image, ImageDraw

from .shapes import SUBJECTS, outline_of
from .world import PLACES, SHIFT, SIZE, SIZES, TILT

__all__ = ["most_alike"]

_TILTS = np.linspace(-TILT, TILT, 5)
_CELLS = 40  # width and height of the frame in which silhouettes are compared
_SPREAD = 9.0  # cells: the root mean square distance from its middle that every silhouette is brought to


def most_alike(mask: np.ndarray) -> tuple[str, float, str, str, float]:
    """Subject, tilt in degrees, size and place of what is most like a silhouette, and how alike they are, 0 to 1.

    Args:
        mask: (SIZE, SIZE) of bool, true somewhere.
    """
    framed, x, y, spread = _frame_of_its_own(mask)
    silhouettes, facts = _silhouettes()
    flat = framed.ravel()
    overlap = (silhouettes & flat).sum(1) / (silhouettes | flat).sum(1)
    best = int(overlap.argmax())
    subject, tilt, middle_x, middle_y, unit_spread = facts[best]
    radius = spread / unit_spread
    size = min(SIZES, key=lambda name: abs(np.log(radius / SIZES[name])))
    centre = (x - radius * middle_x - SIZE / 2, y - radius * middle_y - SIZE / 2)
    place = min(
        PLACES,
        key=lambda name: sum((c - SHIFT[size] * d) ** 2 for c, d in zip(centre, PLACES[name], strict=True)),
    )
    return subject, tilt, size, place, float(overlap[best])


def _frame_of_its_own(mask: np.ndarray) -> tuple[np.ndarray, float, float, float]:
    """A silhouette moved to the middle and brought to one spread; and its middle (x, y) and spread in pixels."""
    ys, xs = np.nonzero(mask)
    x, y = xs.mean(), ys.mean()
    spread = max(float(np.sqrt(((xs - x) ** 2 + (ys - y) ** 2).mean())), 0.5)
    steps = (np.arange(_CELLS) + 0.5 - _CELLS / 2) * spread / _SPREAD
    columns, rows = np.round(x + steps).astype(int), np.round(y + steps).astype(int)
    inside = np.ix_((rows >= 0) & (rows < mask.shape[0]), (columns >= 0) & (columns < mask.shape[1]))
    framed = np.zeros((_CELLS, _CELLS), dtype=bool)
    framed[inside] = mask[np.ix_(rows.clip(0, mask.shape[0] - 1), columns.clip(0, mask.shape[1] - 1))][inside]
    return framed, float(x), float(y), spread


@functools.cache
def _silhouettes() -> tuple[np.ndarray, list[tuple[str, float, float, float, float]]]:
    """(K, cells) of bool, and for each its subject, tilt, and middle (x, y) and spread for a radius of 1."""
    masks, facts = [], []
    radius = 40.0
    for subject in SUBJECTS:
        for tilt in _TILTS:
            canvas = Image.new("1", (SIZE, SIZE))
            for polygon in outline_of(subject, (SIZE / 2, SIZE / 2), radius, float(tilt)):
                ImageDraw.Draw(canvas).polygon(polygon, fill=1)
            framed, x, y, spread = _frame_of_its_own(np.asarray(canvas))
            masks.append(framed.ravel())
            middle = ((x - SIZE / 2) / radius, (y - SIZE / 2) / radius)
            facts.append((subject, float(tilt), *middle, spread / radius))
    return np.array(masks), facts
