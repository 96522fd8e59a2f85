"""Small copies of the store's pictures: a map of a hundred originals would be a hundred megabytes."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from ...adapters.comparisons import PreferenceStore

__all__ = ["Thumbs", "thumbnail"]

SIDE = 256  # px of the longer side: twice what is shown, for fine screens
QUALITY = 84  # of JPEG
KEPT = 600


class Thumbs:
    """Small copies by image id; the latest are kept in memory.

    Args:
        store: Where the pictures are.
    """

    def __init__(self, store: PreferenceStore) -> None:
        self._store = store
        self._made: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, image_id: str) -> bytes:
        """Return a JPEG file.

        Raises:
            ImageError: there is no such picture, or it is damaged.
        """
        with self._lock:
            if image_id in self._made:
                self._made.move_to_end(image_id)
                return self._made[image_id]
        made = thumbnail(self._store.image(image_id))
        with self._lock:
            self._made[image_id] = made
            while len(self._made) > KEPT:
                self._made.popitem(last=False)
        return made


def thumbnail(image: Image.Image, side: int = SIDE, quality: int = QUALITY) -> bytes:
    """Return a JPEG file of the picture, its longer side at most `side` px; it is never made larger."""
    small = image.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=quality, optimize=True)
    return file.getvalue()
