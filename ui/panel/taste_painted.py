"""Pictures painted to see a taste on a prompt that was never compared, or compared too little."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING

from ...adapters.comparisons.images import read_image
from ...adapters.errors import ImageError
from .gallery import ROOM, Gallery
from .shot import Shot
from .wish import MOST_SEEDS, Wish

if TYPE_CHECKING:
    from .easel import Easel
    from .jobs import Job
    from .studio import Studio

__all__ = ["Painted"]

SEEDS = 2**32


class Painted:
    """The gallery's pictures of a prompt as pictures of the store, plain ones only: a taste has no hand in them.

    Args:
        studio: Gives the store.
        gallery: Keeps what was painted.
        easel: Paints.
    """

    def __init__(self, studio: Studio, gallery: Gallery, easel: Easel) -> None:
        self._studio, self._gallery, self._easel = studio, gallery, easel
        self._ids: dict[str, str] = {}  # image id by the file in the gallery
        self._lock = threading.Lock()

    def of(self, prompt: str) -> tuple[str, ...]:
        """Return the image ids of what was painted for a prompt, newest first."""
        if not prompt:
            return ()
        shots = [shot for shot in self._gallery.shots(count=ROOM) if shot.used.prompt == prompt]
        found = [self._id(shot) for shot in shots if shot.used.strength == 0 or not shot.used.tastes]
        return tuple(dict.fromkeys(image for image in found if image))

    def more(self, prompt: str, person: str, job: Job) -> None:
        """Paint some more of a prompt.

        Raises:
            CancelledError: the job was stopped; pictures that are done stay.
            PreferenceError: the model can't.
        """
        chance = random.SystemRandom()
        seeds = tuple(chance.randrange(SEEDS) for _ in range(MOST_SEEDS))
        self._easel.paint(Wish(prompt=prompt, seeds=seeds), person, job)

    def _id(self, shot: Shot) -> str:
        """Return the id in the store, "" where the file is gone."""
        with self._lock:
            if shot.picture not in self._ids:
                try:
                    self._ids[shot.picture] = self._studio.store.add_image(read_image(self._gallery.path(shot)))
                except ImageError:
                    return ""
            return self._ids[shot.picture]
