"""The pictures of the store and what encoders made of them: they belong to nobody, and several people compare them."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..errors import ImageError, StoreError
from ..places import typed_path
from .database import Database
from .folder import ImageFolder, make_folder
from .images import encode_png, pixel_hash, read_image
from .vectors import count_vectors, first_vectors, read_vectors, write_vectors

__all__ = ["ImageStore"]


class ImageStore:
    """The part of a `PreferenceStore` that knows pictures and vectors, and nobody who compared them; its base.

    An image's id is what `add_image` returns, 64 hexadecimal digits. Every method may raise `StoreError`.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = typed_path(path).absolute()
        self._images = ImageFolder(self.path / "images")
        try:
            make_folder(self._images.folder)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise StoreError(
                f"Cannot open the store {self.path}: {reason}; expected a folder that can be written. "
                "Choose another folder."
            ) from error
        self._database = Database(self.path / "store.sqlite")

    def close(self) -> None:
        """Close the file; nothing is lost without it, and closing twice does nothing."""
        self._database.close()

    # Images

    def add_image(self, image: Any) -> str:
        """Keep a picture and return its id: the sha256 of its PNG file. The same pixels give the same id.

        Args:
            image: A PIL image of any mode, a path, or an (H, W, 3) array or tensor of floats in [0, 1].

        Raises:
            ImageError: it can't be read, is too large, or holds NaN.
        """
        rgb = read_image(image)
        pixels = pixel_hash(rgb)
        with self._database.read() as connection:
            row = connection.execute("SELECT id FROM images WHERE pixels = ?", (pixels,)).fetchone()
        if row and self._images.holds(row[0]):
            return str(row[0])
        data = encode_png(rgb)
        # A picture that was lost or damaged from outside comes back under the id that comparisons know.
        image_id = str(row[0]) if row else hashlib.sha256(data).hexdigest()
        self._images.write(image_id, data)
        with self._database.write() as connection:
            # Another Pillow may have encoded the same pixels to other bytes: the first id stays.
            connection.execute(
                "INSERT OR IGNORE INTO images (id, pixels, width, height, created) VALUES (?, ?, ?, ?, ?)",
                (image_id, pixels, rgb.width, rgb.height, time.time()),
            )
            row = connection.execute("SELECT id FROM images WHERE pixels = ?", (pixels,)).fetchone()
        return str(row[0])

    def has_image(self, image_id: str) -> bool:
        """Return whether the picture itself is here; False for what is no id."""
        with contextlib.suppress(ImageError):
            return self._images.path(image_id).is_file()
        return False

    def image_path(self, image_id: str) -> Path:
        """Return the PNG file of an image.

        Raises:
            ImageError: the id is none, or its picture isn't here.
        """
        file = self._images.path(image_id)
        if not file.is_file():
            raise ImageError(
                f"Cannot find image {image_id[:12]}…: it isn't in {self._images.folder}; expected one that was added. "
                "Add the picture again."
            )
        return file

    def image(self, image_id: str) -> Image.Image:
        """Return the picture as RGB.

        Raises:
            ImageError: the id is none, its picture isn't here, or the file was damaged.
        """
        return read_image(self.image_path(image_id))

    # Vectors

    def vectors(self, encoder: str, ids: Sequence[str]) -> dict[str, npt.NDArray[np.float32]]:
        """Return the cached vectors (D,) float32 of these images for one encoder; images without one are absent.

        Args:
            encoder: The encoder's identity. Vectors of two identities never meet.
        """
        with self._database.read() as connection:
            return read_vectors(connection, encoder, ids)

    def count_vectors(self, encoder: str) -> int:
        """Return how many images have a cached vector of this encoder."""
        with self._database.read() as connection:
            return count_vectors(connection, encoder)

    def first_vectors(self, encoder: str, count: int) -> npt.NDArray[np.float32]:
        """Return up to `count` vectors (M, D) float32 of this encoder, those that were cached first."""
        with self._database.read() as connection:
            return first_vectors(connection, encoder, count)

    def put_vectors(self, encoder: str, vectors: Mapping[str, Any]) -> None:
        """Cache vectors (D,) by image id for one encoder, all or none; a cached one is replaced.

        Raises:
            ShapeError: NaN, infinity, not (D,), or another D than this encoder's vectors have.
        """
        with self._database.write() as connection:
            write_vectors(connection, encoder, vectors)
