"""What is shown, and what it was made of."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["CHOSEN", "RANDOM", "REPEAT", "Candidate", "Pair", "Pool"]

# Sources of comparisons: asked for what it teaches, drawn by chance, or answered before.
CHOSEN, RANDOM, REPEAT = "panel", "panel:random", "panel:repeat"


@dataclass(frozen=True)
class Pair:
    """Two pictures of the store, or more, as they lie on the screen, and the ticket that an answer must carry.

    The ticket is the id of an offer in the store once the pair was handed to a browser. `source` says how it was drawn;
    `others` are the third picture and those after it, `other_seeds` theirs.
    """

    left: str
    right: str
    prompt: str = ""
    left_seed: int | None = None
    right_seed: int | None = None
    model: str = ""
    source: str = CHOSEN
    ticket: str = field(default_factory=lambda: uuid.uuid4().hex)
    others: tuple[str, ...] = ()
    other_seeds: tuple[int | None, ...] = ()

    @property
    def images(self) -> tuple[str, ...]:
        """All pictures, as shown."""
        return (self.left, self.right, *self.others)


@dataclass(frozen=True, eq=False)
class Candidate:
    """A picture that could be shown: `open` gives it in RGB, `name` tells it from the others of its source."""

    name: str
    open: Callable[[], Image.Image]
    seed: int | None = None


@dataclass(frozen=True)
class Pool:
    """Pictures to choose one pair or set from; they share a prompt, or come from one folder.

    `fresh` of them, the last ones, were not there when an earlier one was chosen; None: all of them.
    """

    candidates: tuple[Candidate, ...]
    prompt: str = ""
    model: str = ""
    fresh: int | None = None
