"""The words that the playground's encoder knows: the values of what captions name."""

from __future__ import annotations

from ..taste.vocabulary import VOCABULARY
from ..taste.words import Word
from .captions import caption
from .world import NAMED

__all__ = ["playground_words", "words_known_by"]


def playground_words() -> tuple[Word, ...]:
    """Return each value with the caption that says it and nothing else."""
    return tuple(
        Word(_shown(kind, value), kind, caption({kind: value})) for kind, values in NAMED.items() for value in values
    )


def words_known_by(name: str) -> tuple[Word, ...]:
    """Return the words that an encoder or a model of this name knows: the playground's, or those of all pictures."""
    return playground_words() if name == "playground" else VOCABULARY


def _shown(kind: str, value: str) -> str:
    """Say on its own what in a caption has its place: "left" alone would be no word for a picture."""
    if kind == "background":
        return f"{value} background"
    if kind == "place":
        return {"centre": "in the centre", "top": "at the top", "bottom": "at the bottom"}.get(value, f"on the {value}")
    return value
