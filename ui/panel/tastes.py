"""Tastes as files: the shelf in PALATE_HOME/tastes that survives a restart and that the nodes use, too."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...adapters.errors import FileFormatError, PreferenceError, StoreError
from ...adapters.files import TasteFile, bring_taste, describe, load_taste, place_taste, taste_picture
from ...adapters.places import safe_name

if TYPE_CHECKING:
    from ...adapters.taste import Taste
    from .studio import Studio

__all__ = ["Entry", "TasteFiles"]

ENDING = ".safetensors"
NOBODY = "somebody"  # whose taste it is when the name is left out


@dataclass(frozen=True)
class Entry:
    """One file of the shelf.

    Attributes:
        name: Of the file, unique on the shelf.
        said: What it says of itself; None when it can't be read.
        trouble: Why it can't be read; "" when it can.
    """

    name: str
    said: TasteFile | None
    trouble: str = ""


class TasteFiles:
    """The taste files of one folder.

    Args:
        studio: Gives the folder, and tastes by person.
    """

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self._removed: dict[str, bytes] = {}
        self._loaded: dict[str, tuple[tuple[int, int], Taste]] = {}
        self._lock = threading.RLock()

    def entries(self) -> list[Entry]:
        """Return all files by name; those that can't be read with the reason."""
        found = []
        for path in sorted(self._studio.tastes_folder.glob(f"*{ENDING}")):
            if path.name.startswith("."):
                continue
            try:
                found.append(Entry(path.name, describe(path)))
            except PreferenceError as error:
                found.append(Entry(path.name, None, str(error)))
        return found

    def path(self, name: str) -> Path:
        """Return the path of a file on the shelf.

        Raises:
            FileFormatError: there is none of this name.
        """
        if name == Path(name).name and name.endswith(ENDING) and not name.startswith("."):
            path = self._studio.tastes_folder / name
            if path.is_file():
                return path
        raise FileFormatError(
            f"Cannot use the taste {name[:80]!r}: it is not on the shelf; expected one of the files under Share. "
            "Bring the file in again."
        )

    def load(self, name: str) -> Taste:
        """Return the taste of a file, whatever encoder it belongs to; read again only when the file changed."""
        path = self.path(name)
        status = path.stat()
        stamp = (status.st_mtime_ns, status.st_size)
        with self._lock:
            kept = self._loaded.get(name)
            if kept is None or kept[0] != stamp:
                kept = self._loaded[name] = stamp, self._studio.tools.load(path, None)
            return kept[1]

    def add(self, name: str, data: bytes) -> Entry:
        """Put a file on the shelf; the same file twice is one, another one of the same name gets a number.

        What a picture carries is taken out of it.

        Args:
            name: As it was called where it came from.
            data: Its bytes.

        Raises:
            FileFormatError: it is no taste; nothing is kept.
        """
        with self._lock:
            # Files named like somebody here are those that Save writes: a friend who is "me", too, gets a number.
            here = {safe_name(person) for person in (self._studio.person, *self._studio.store.people())}
            return self._entry(bring_taste(name, data, self._studio.tastes_folder, here))

    def save(self, person: str, named: bool = True) -> Entry:
        """Save the person's taste as a file; `named` False leaves out whose it is."""
        if named:
            return self._entry(self._studio.save_taste(person))
        accuracy = self._studio.reports.of(person).measured
        taste = replace(self._studio.taste(person), person=NOBODY, accuracy=accuracy)
        with tempfile.TemporaryDirectory() as folder:
            path = self._studio.tools.save(taste, Path(folder) / f"{NOBODY}{ENDING}")
            return self._entry(place_taste(NOBODY, path.read_bytes(), self._studio.tastes_folder))

    def picture(self, name: str) -> bytes:
        """Return a PNG that shows a taste of the shelf and carries its file."""
        return taste_picture(load_taste(self.path(name)))

    def remove(self, name: str) -> None:
        """Take a file off the shelf; `restore` brings it back as long as the panel runs."""
        with self._lock:
            path = self.path(name)
            self._removed[name] = path.read_bytes()
            self._act(path.unlink)

    def restore(self, name: str) -> Entry:
        """Put back what was removed.

        Raises:
            FileFormatError: nothing of this name was removed.
        """
        with self._lock:
            data = self._removed.pop(name, None)
            if data is None:
                return self._entry(self.path(name))
            return self._entry(place_taste(name.removesuffix(ENDING), data, self._studio.tastes_folder))

    def _entry(self, path: Path) -> Entry:
        return Entry(path.name, describe(path))

    def _act(self, act: Callable[[], object]) -> None:
        try:
            act()
        except OSError as error:
            raise StoreError(
                f"Cannot change the shelf of tastes: {error.strerror or error}; expected a folder with room that can "
                f"be written. Look at {self._studio.tastes_folder}."
            ) from error
