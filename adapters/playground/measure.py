"""What a picture shows, measured from its pixels by formula, with no learned model: the judge of every study.

Every pixel goes to the nearest colour of the world's palette; the subject is where the subject colour that most pixels
went to lies, and its silhouette says which; a pattern is the drawn one that the background correlates with best.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from .silhouettes import most_alike
from .world import (
    BACKGROUNDS,
    COLOURS,
    DIRECTIONS,
    FRAME,
    NAMED,
    PATTERNS,
    PERIODS,
    SHADE,
    SIZE,
    pattern_mask,
    second_tone,
)

__all__ = ["Measured", "measure", "palette"]

_CLASSES = len(COLOURS) + len(BACKGROUNDS) + 1  # the last is white
_PLAIN = 0.16  # correlation below which a background counts as plain


@dataclass(frozen=True)
class Measured:
    """What a picture shows; the first six are values of `NAMED`.

    Attributes:
        subject_match: Overlap of the silhouette with the drawn one (intersection over union), in [0, 1].
        tilt: Degrees, clockwise, to the nearest 6.
        area: Share of the picture that the subject covers, in [0, 1].
        shading: Brightness at the subject's upper end minus that at its lower end, in about [-1, 1].
        frame: Share of the outermost pixels that are white, in [0, 1].
        sticker: Share of the pixels around the subject that are white, in [0, 1].
        period: Pixels, of the pattern; 0 for plain.
        brightness: Mean over all pixels, in [0, 1].
        colourfulness: Mean over all pixels of largest minus smallest channel, in [0, 1].
    """

    subject: str
    colour: str
    background: str
    pattern: str
    size: str
    place: str
    subject_match: float
    tilt: float
    area: float
    shading: float
    frame: float
    sticker: float
    period: int
    brightness: float
    colourfulness: float

    def named(self) -> dict[str, str]:
        """The six properties that a caption may name."""
        return {name: getattr(self, name) for name in NAMED}

    def agrees(self, values: dict[str, str]) -> bool:
        """Whether all these properties are as measured."""
        return all(getattr(self, name) == value for name, value in values.items())


@functools.cache
def palette() -> tuple[np.ndarray, np.ndarray]:
    """All colours that a postcard is drawn in.

    Returns:
        (P, 3) in [0, 1], and the class of each, (P,): subjects' colours first, then backgrounds, then white.
    """
    colours, classes = [], []
    for k, colour in enumerate(COLOURS.values()):
        for shade in np.linspace(1.0, SHADE, 4):
            colours.append(np.array(colour) * shade)
            classes.append(k)
    for k, name in enumerate(BACKGROUNDS):
        tones = np.linspace(np.array(BACKGROUNDS[name], float), np.array(second_tone(name), float), 3)
        colours.extend(tones)
        classes.extend([len(COLOURS) + k] * 3)
    colours.append(np.array([255.0, 255.0, 255.0]))
    classes.append(len(COLOURS) + len(BACKGROUNDS))
    return np.array(colours) / 255, np.array(classes)


def _nearest(pixels: np.ndarray) -> np.ndarray:
    """(H, W) class of each pixel of (H, W, 3)."""
    colours, classes = palette()
    flat = pixels.reshape(-1, 3)
    # |p - c|^2 without the term that is the same for all colours.
    distance = (colours**2).sum(1) - 2 * flat @ colours.T
    return np.asarray(classes[distance.argmin(1)].reshape(pixels.shape[:2]))


def _majority(mask: np.ndarray) -> np.ndarray:
    """Drop specks: keep a pixel when at least five of the nine around it are set."""
    padded = np.pad(mask.astype(np.int8), 1)
    total = sum(padded[dy : dy + mask.shape[0], dx : dx + mask.shape[1]] for dy in range(3) for dx in range(3))
    return np.asarray(total >= 5)


def _grown(mask: np.ndarray, pixels: int) -> np.ndarray:
    image = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(image.filter(ImageFilter.MaxFilter(2 * pixels + 1))) > 0


@functools.cache
def _patterns() -> tuple[np.ndarray, list[tuple[str, int, str]]]:
    """(K, pixels) of ±1 with every second pixel each way, and for each its pattern, period and direction."""
    masks, facts = [], []
    for pattern in PATTERNS[1:]:
        for period in PERIODS:
            for direction in DIRECTIONS if pattern == "striped" else ("upright",):
                length = period * (1.42 if direction == "slanted" else 1.0)  # pixels along x until it repeats
                for across in np.arange(0, length, 4):
                    for down in np.arange(0, period, 4) if pattern != "striped" else (0,):
                        phase = (across, down) if direction != "level" else (down, across)
                        mask = pattern_mask(pattern, period, direction, phase)[::2, ::2]
                        masks.append(mask.ravel().astype(np.float32))
                        facts.append((pattern, period, direction))
    return np.array(masks), facts


def measure(image: Image.Image) -> Measured:
    """Measure a picture of any size, which is brought to the size of a postcard first."""
    picture = image.convert("RGB")
    if picture.size != (SIZE, SIZE):
        picture = picture.resize((SIZE, SIZE), Image.Resampling.BOX)
    pixels = np.asarray(picture, dtype=np.float32) / 255
    classes = _nearest(pixels)
    colour, mask = _subject_in(classes)
    subject, tilt, size, place, match = most_alike(mask)
    background, behind = _background_of(classes, mask)
    pattern, period = _pattern(pixels, behind, background)

    edge = np.ones((SIZE, SIZE), dtype=bool)
    edge[FRAME - 1 : -FRAME + 1, FRAME - 1 : -FRAME + 1] = False
    white = pixels.min(2) > 0.9
    around = _grown(mask, 3) & ~_grown(mask, 1)
    return Measured(
        subject=subject,
        colour=colour,
        background=background,
        pattern=pattern,
        size=size,
        place=place,
        subject_match=match,
        tilt=tilt,
        area=float(mask.mean()),
        shading=_shading(pixels.max(2), mask),
        frame=float(white[edge].mean()),
        sticker=float(white[around].mean()) if around.any() else 0.0,
        period=period,
        brightness=float(pixels.mean()),
        colourfulness=float((pixels.max(2) - pixels.min(2)).mean()),
    )


def _subject_in(classes: np.ndarray) -> tuple[str, np.ndarray]:
    """The subject's colour, and (SIZE, SIZE) where it is."""
    inner = slice(FRAME + 2, SIZE - FRAME - 2)
    within = np.bincount(classes[inner, inner].ravel(), minlength=_CLASSES)
    colour = int(within[: len(COLOURS)].argmax())
    mask = _majority(classes == colour)
    if mask.sum() < 12:  # an empty card: whatever is least like the background stands for the subject
        mask = np.zeros_like(mask)
        mask[SIZE // 2 - 2 : SIZE // 2 + 2, SIZE // 2 - 2 : SIZE // 2 + 2] = True
    return list(COLOURS)[colour], mask


def _background_of(classes: np.ndarray, mask: np.ndarray) -> tuple[str, np.ndarray]:
    """The background's name, and (SIZE, SIZE) where nothing is before it."""
    behind = ~_grown(mask, 5)
    behind[: FRAME + 2] = behind[-FRAME - 2 :] = False
    behind[:, : FRAME + 2] = behind[:, -FRAME - 2 :] = False
    first = len(COLOURS)
    ground = np.bincount(classes[behind], minlength=_CLASSES)[first : first + len(BACKGROUNDS)]
    return list(BACKGROUNDS)[int(ground.argmax())], behind


def _shading(light: np.ndarray, mask: np.ndarray) -> float:
    """How much lighter the subject's upper quarter is than its lower one."""
    rows = np.nonzero(mask.any(1))[0]
    upper, lower = rows[: max(1, len(rows) // 4)], rows[-max(1, len(rows) // 4) :]
    return float(light[upper][mask[upper]].mean() - light[lower][mask[lower]].mean())


def _pattern(pixels: np.ndarray, behind: np.ndarray, background: str) -> tuple[str, int]:
    """The pattern that the pixels behind the subject show best, and its period in pixels."""
    base, tone = np.array(BACKGROUNDS[background]) / 255, np.array(second_tone(background)) / 255
    step = tone - base
    # How far each pixel has gone from the background's first tone (0) to its second (1).
    share = ((pixels - base) @ step / (step @ step))[::2, ::2].clip(-0.5, 1.5)
    weight = behind[::2, ::2].astype(np.float32).ravel()
    if weight.sum() < 50:
        return "plain", 0
    masks, facts = _patterns()
    total = weight.sum()
    share = share.ravel() - (share.ravel() @ weight) / total
    means = (masks @ weight) / total
    variance = means * (1 - means)
    covariance = masks @ (share * weight) / total  # share has weighted mean 0, so the masks' means drop out
    # Dividing by the mask's spread ranks the patterns by how much of the background's variance they explain.
    explained = covariance / np.sqrt(variance + 1e-6)
    best = int(explained.argmax())
    if explained[best] < _PLAIN:
        return "plain", 0
    return facts[best][0], facts[best][1]
