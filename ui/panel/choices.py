"""'I prefer this one': an answer given under Generate, once, and taken back."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from ...adapters.comparisons import Comparison
from ...adapters.comparisons.images import read_image
from ...adapters.errors import ComparisonError
from .gallery import Gallery
from .shot import Shot

if TYPE_CHECKING:
    from .studio import Studio

__all__ = ["SOURCE", "Choices"]

SOURCE = "panel:generate"


class Choices:
    """Comparisons of generated pictures with their counterparts: the same prompt and seed, another strength.

    Args:
        studio: Gives the store.
        gallery: Gives the pictures.
    """

    def __init__(self, studio: Studio, gallery: Gallery) -> None:
        self._studio, self._gallery = studio, gallery
        self._lock = threading.Lock()

    def prefer(self, person: str, chosen: str, rejected: str) -> Comparison:
        """Store that the person prefers one picture of the gallery to another; the same twice is one answer.

        Raises:
            ComparisonError: they are not of one prompt and seed, or look the same.
            ImageError: one of them is gone.
        """
        first, second = self._gallery.get(chosen), self._gallery.get(rejected)
        if (first.used.prompt, first.used.seed) != (second.used.prompt, second.used.seed):
            raise ComparisonError(
                "Cannot store the answer: the two pictures have different prompts or seeds; expected the same. "
                "Choose one of the pictures that the slider shows."
            )
        store = self._studio.store
        kept, other = (store.add_image(read_image(self._gallery.path(shot))) for shot in (first, second))
        if kept == other:
            raise ComparisonError(
                "Cannot store the answer: both pictures look the same; expected two different ones. Move the slider."
            )
        with self._lock:
            for answer in store.comparisons(person):
                if answer.source == SOURCE and {answer.left, answer.right} == {kept, other}:
                    # They may have changed their mind.
                    return store.change(answer.id or 0, "left" if kept == answer.left else "right")
            left, right = sorted((kept, other))  # there was no left and right on the screen
            sides: dict[str, Shot] = {kept: first, other: second}
            return store.add(
                Comparison(
                    person=person,
                    left=left,
                    right=right,
                    outcome="left" if kept == left else "right",
                    prompt=first.used.prompt,
                    left_seed=_stored_seed(sides[left]),
                    right_seed=_stored_seed(sides[right]),
                    model=first.used.model,
                    source=SOURCE,
                )
            )

    def take_back(self, person: str, comparison: int) -> bool:
        """Delete an answer that this person gave here; return whether there was one."""
        with self._lock:
            mine = {answer.id for answer in self._studio.store.comparisons(person) if answer.source == SOURCE}
            return comparison in mine and self._studio.store.delete(comparison) is not None


def _stored_seed(shot: Shot) -> int | None:
    return shot.used.seed if shot.used.seed < 2**63 else None  # SQLite's numbers end there
