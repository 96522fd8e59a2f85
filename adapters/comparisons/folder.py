"""The image files of the store, named by their content."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import tempfile
from pathlib import Path

from ..errors import ImageError, StoreError

__all__ = ["ImageFolder", "make_folder"]

_ID_LENGTH = 64  # hexadecimal digits of a sha256


class ImageFolder:
    """PNG files named by the sha256 of their bytes, spread over 256 folders."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, image_id: str) -> Path:
        """Return where the file of an id lies, or would lie.

        Raises:
            ImageError: not an id, so that no text from outside ever becomes a path.
        """
        if len(image_id) != _ID_LENGTH or not set(image_id) <= set("0123456789abcdef"):
            raise ImageError(
                f"Cannot find image {image_id[:80]!a}: expected {_ID_LENGTH} digits of 0-9 and a-f. "
                "Use an id that the store gave."
            )
        return self.folder / image_id[:2] / f"{image_id}.png"

    def holds(self, image_id: str) -> bool:
        """Return whether the file is there and whole: its bytes still have the hash that named it."""
        try:
            return hashlib.sha256(self.path(image_id).read_bytes()).hexdigest() == image_id
        except OSError:
            return False

    def write(self, image_id: str, data: bytes) -> None:
        """Write a PNG file so that it is there whole or not at all, also after a power cut.

        Raises:
            StoreError: the disk is full or can't be written; nothing is left behind.
        """
        file = self.path(image_id)
        try:
            make_folder(file.parent)
            _write_atomically(file, data)
        except OSError as error:
            raise StoreError(
                f"Cannot write {file}: {error.strerror or error}; expected a folder with free space. "
                "Nothing was recorded. Free some space and try again."
            ) from error


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, on disk when this returns.

    Raises:
        OSError: it can't be made, or a file of this name is in the way.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir()
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "a file is in the way", str(folder))
    _sync_folder(folder.parent)


def _write_atomically(file: Path, data: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=file.parent)
    try:
        with open(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(file.parent)


def _sync_folder(folder: Path) -> None:
    """Put the folder's list of names on disk; Windows can't and needn't."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
