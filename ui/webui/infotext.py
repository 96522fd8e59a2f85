"""What a picture's infotext says of whose taste and which user made it, and how a pasted one is read.

Names of files and of people, or with the setting *Palate* of the host a short identity of what they stand for: of a
file its content's, of a person's answers the first one's. Where the same file or person is, paste finds it by either.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...adapters.comparisons import PreferenceStore
from ...adapters.errors import StoreError
from ...adapters.places import palate_home
from .users import person_of

__all__ = ["add_setting", "meant", "told"]

SETTING = "palate_no_names"
_LABEL = "Write no names of people into pictures: a short identity of the taste or user instead"
_MARK = "#"
_LENGTH = 12  # hexadecimal digits
_ENDING = ".safetensors"
_PIECE = 1 << 20  # bytes of a file read at once: a PPD's weights can be a gigabyte


def add_setting(shared: Any) -> None:
    """Put the switch among the host's settings.

    Args:
        shared: The host's `modules.shared`.
    """
    shared.opts.add_option(SETTING, shared.OptionInfo(False, _LABEL, section=("palate", "Palate")))


def told(name: str, folder: Path, options: Any) -> str:
    """Return what an infotext says of a taste or a user.

    Args:
        name: As `taste_names` or `user_names` lists it.
        folder: Where its file is, if it is one.
        options: The host's `shared.opts`.
    """
    return _identity(name, folder) if getattr(options, SETTING, False) else name.removesuffix(_ENDING)


def meant(said: str, names: Sequence[str], folder: Path) -> str | None:
    """Return which of the listed names an infotext means, None where it is not here.

    Args:
        said: As `told` returned it, here or elsewhere.
        names, folder: As in `told`, all that are listed.
    """
    for name in names:
        if name in (said, f"{said}{_ENDING}") or (said.startswith(_MARK) and _identity(name, folder) == said):
            return name
    return None


def _identity(name: str, folder: Path) -> str:
    person, file = person_of(name), folder / name
    if file.is_file():  # "none" and its like are no files
        status = file.stat()
        return _MARK + _digest(file, status.st_mtime_ns, status.st_size)[:_LENGTH] if status.st_size else ""
    content = b"" if person is None else _first_answer(person)
    return _MARK + hashlib.sha256(content).hexdigest()[:_LENGTH] if content else ""


@functools.lru_cache(maxsize=256)
def _digest(file: Path, modified: int, size: int) -> str:
    """Of a file as it is now; every picture of a batch asks for it."""
    found = hashlib.sha256()
    with file.open("rb") as content:
        while piece := content.read(_PIECE):
            found.update(piece)
    return found.hexdigest()


def _first_answer(person: str) -> bytes:
    """Between which pictures and when, which nobody guesses from a name."""
    try:
        with PreferenceStore.existing(palate_home() / "store") as store:
            first = next(iter(store.comparisons(person)), None)
    except StoreError:
        first = None
    return b"" if first is None else f"{first.left} {first.right} {first.created}".encode()
