"""A generated picture, and what it was made with."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Shot", "Used"]


@dataclass(frozen=True)
class Used:
    """What a picture was made with; the same gives the same picture.

    Attributes:
        tastes: (source, weight) of each taste, sources as in `blends.Part`; () for a plain picture.
        fingerprint: Of what the tastes were when they were used; answers change them.
        degrees: How far the prompt was turned; None when the model doesn't say.
        strength: 0 for a plain picture.
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
