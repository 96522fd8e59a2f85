"""Generated pictures that nobody has stored: kept in memory for as long as they may be looked at."""

from __future__ import annotations

import threading
import uuid
from collections import OrderedDict
from typing import TYPE_CHECKING

from ...adapters.comparisons.images import encode_png

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Shelf"]


class Shelf:
    """PNG files by unguessable id; the oldest go when there are more than `room`."""

    def __init__(self, room: int = 64) -> None:
        self._room = room
        self._files: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, image: Image.Image) -> str:
        """Keep a picture and return its id."""
        key, data = uuid.uuid4().hex, encode_png(image.convert("RGB"))
        with self._lock:
            self._files[key] = data
            while len(self._files) > self._room:
                self._files.popitem(last=False)
        return key

    def get(self, key: str) -> bytes | None:
        """Return the PNG file, or None when it is unknown or gone."""
        return self._files.get(key)
