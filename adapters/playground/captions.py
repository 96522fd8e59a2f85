"""Captions of postcards: each names one to four properties, in plain English, and can be read back."""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Mapping

from .world import NAMED, Card

__all__ = ["caption", "caption_of", "named_in", "sample_caption", "sample_names"]

_PLACES = {
    "centre": "in the centre",
    "left": "on the left",
    "right": "on the right",
    "top": "at the top",
    "bottom": "at the bottom",
}
_OPENINGS = ("", "a postcard of ", "a picture of ")


def caption(values: Mapping[str, str], opening: str = "") -> str:
    """Say some properties of a card.

    Args:
        values: Property -> value, at least one of `NAMED`.
        opening: What the caption begins with.

    Returns:
        Text such as "a large red star on the left, dotted mint background".

    Raises:
        ValueError: a property or value that no card has, or none at all.
    """
    unknown = {name: value for name, value in values.items() if value not in NAMED.get(name, ())}
    if unknown or not values:
        raise ValueError(f"Cannot write a caption for {dict(values)!r}: expected properties of {', '.join(NAMED)}.")
    subject = [values[name] for name in ("size", "colour") if name in values] + [values.get("subject", "shape")]
    article = "an" if subject[0][0] in "aeiou" else "a"
    text = f"{opening}{article} {' '.join(subject)}"
    if "place" in values:
        text += f" {_PLACES[values['place']]}"
    behind = [values[name] for name in ("pattern", "background") if name in values]
    if behind:
        text += f", {' '.join(behind)} background"
    return text


def sample_names(rng: random.Random) -> list[str]:
    """Choose what a caption names: one to four properties, the subject in most of them."""
    count = rng.choice((1, 2, 3, 3, 4, 4))
    others = [name for name in NAMED if name != "subject"]
    if rng.random() < 0.85:
        return ["subject", *rng.sample(others, count - 1)]
    return rng.sample(others, count)


def caption_of(card: Card, names: Collection[str], opening: str = "") -> str:
    """Caption a card, naming these of its properties, keys of `NAMED`; arguments and errors as `caption`."""
    named = card.named()
    return caption({name: named[name] for name in NAMED if name in names}, opening)


def sample_caption(card: Card, rng: random.Random) -> str:
    """Caption a card as the models are trained on: names by chance, opening by chance."""
    return caption_of(card, sample_names(rng), rng.choice(_OPENINGS))


def named_in(text: str) -> dict[str, str]:
    """Read a caption back: property -> value for all values whose word occurs in the text."""
    words = set(re.findall(r"[a-z]+", text.lower()))
    return {name: value for name, values in NAMED.items() for value in values if value in words}
