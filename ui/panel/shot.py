"""A generated picture, and what it was made with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Shot", "Used", "in_one"]


def in_one(prompt: str, words: Sequence[str]) -> str:
    """Return a prompt and what was added to it."""
    return ", ".join((prompt, *words))


@dataclass(frozen=True)
class Used:
    """What a picture was made with; the same gives the same picture.

    Attributes:
        tastes: (source, weight) of each taste, sources as in `blends.Part`; () for a plain picture.
        fingerprint: Of what the tastes were when they were used; answers change them.
        degrees: How far the prompt was turned; None when the model doesn't say.
        strength: 0 for a plain picture.
        words: That the tastes added to the prompt, which is as it was typed.
    """

    person: str
    prompt: str
    negative: str
    seed: int
    strength: float
    tastes: tuple[tuple[str, float], ...]
    fingerprint: str
    method: str
    objective: str
    turns: int
    limit: float
    model: str
    steps: int
    guidance: float
    width: int
    height: int
    degrees: float | None = None
    words: tuple[str, ...] = ()

    @property
    def worded(self) -> str:
        """The prompt as the model got it."""
        return in_one(self.prompt, self.words)


@dataclass(frozen=True)
class Shot:
    """One picture of the gallery.

    Attributes:
        picture: sha256 of its PNG file. seconds: it took. created: seconds since 1970 UTC.
        between: Painted for the slider, not asked for by itself.
    """

    id: str
    used: Used
    picture: str
    created: float
    seconds: float
    starred: bool = False
    between: bool = False
