"""A taste or a user embedding that somebody brings in, onto the shelf of all hosts."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path

from ..errors import FileFormatError, StoreError
from ..places import safe_name
from .container import read_metadata
from .picture import carried
from .taste_file import load_taste
from .user_file import FORMAT as USER_FORMAT
from .user_file import load_user
from .writing import write_bytes_atomically

__all__ = ["MOST_BYTES", "bring_taste", "bring_user", "is_user", "place_taste"]

MOST_BYTES = 1 << 26  # of a file that is brought in; a taste's are below 1 MB
ENDING = ".safetensors"
NOBODY = "somebody"
_ODD = re.compile(r'[\x00-\x1f\x7f/\\<>:"|?*\ud800-\udfff]')  # not in a file's name everywhere
_ENDINGS = re.compile(r"(\.safetensors|\.png)+$", re.IGNORECASE)


def bring_taste(name: str, data: bytes, folder: Path, taken: Collection[str] = ()) -> Path:
    """Put a taste, or the one that a picture carries, into a folder, and return its file.

    Args:
        name: As it was called where it came from.
        data: Its bytes.
        folder: Of tastes. The same file twice is one, another one of the same name gets a number.
        taken: Names, without ending, that it may not get.

    Raises:
        FileFormatError: it is no taste; nothing is kept.
        StoreError: the folder can't be written.
    """
    return _bring(name, data, folder, taken, load_taste, "a taste")


def bring_user(name: str, data: bytes, folder: Path, taken: Collection[str] = ()) -> Path:
    """Put a user embedding into a folder, and return its file.

    Args:
        name, data, folder, taken: As in `bring_taste`.

    Raises:
        FileFormatError: no user embedding, or too large. StoreError: it can't be written.
    """
    return _bring(name, data, folder, taken, load_user, "a user embedding")


def is_user(data: bytes) -> bool:
    """Whether a file says that it is a user embedding; the rest of it may still be anything."""
    try:
        return read_metadata("file", data, "a user embedding").get("format") == USER_FORMAT
    except FileFormatError:
        return False


def _bring(
    name: str, data: bytes, folder: Path, taken: Collection[str], load: Callable[[Path], object], what: str
) -> Path:
    shown = _ODD.sub("_", Path(name.replace("\\", "/")).name)[-60:]  # 240 bytes at most
    shown = shown if shown.strip(".") else "file"
    if len(data) > MOST_BYTES:
        raise FileFormatError(f"Cannot read {shown!r}: it has {len(data):,} bytes; expected {what}, below 1 MB.")
    content = carried(shown, data, what)
    try:
        with tempfile.TemporaryDirectory() as place:
            path = Path(place, shown)
            path.write_bytes(content)
            load(path)  # all of it, so that a broken one never gets onto the shelf
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"Cannot keep {shown!r}: {error.strerror or error}; expected room on the disk.") from error
    return place_taste(safe_name(_ENDINGS.sub("", shown).strip(" .") or NOBODY), content, folder, taken)


def place_taste(stem: str, content: bytes, folder: Path, taken: Collection[str] = ()) -> Path:
    """Write a file under a name of its own, unless it is there already; nothing is written over, whoever else writes.

    Args:
        stem: Its name, without ending.
        content: Of the file.
        folder, taken: As in `bring_taste`.

    Raises:
        StoreError: it can't be written.
    """
    number = 1
    while True:
        path = folder / f"{stem if number == 1 else f'{stem}-{number}'}{ENDING}"
        if os.path.lexists(path):
            if path.is_file() and path.read_bytes() == content:
                return path
        elif path.stem not in taken:
            try:
                return write_bytes_atomically(path, content, replace=False)
            except FileExistsError:  # another process took the name since: look at what it put there
                continue
        number += 1
