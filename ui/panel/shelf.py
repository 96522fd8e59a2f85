"""Small files of one kind in one folder of PALATE_HOME, which survives a restart and which the nodes use, too."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from ...adapters.errors import FileFormatError, PreferenceError, StoreError
from ...adapters.files import place_taste

__all__ = ["ENDING", "Entry", "Shelf"]

ENDING = ".safetensors"
Said = TypeVar("Said")
Loaded = TypeVar("Loaded")


@dataclass(frozen=True)
class Entry(Generic[Said]):
    """One file of a shelf.

    Attributes:
        name: Of the file, unique on the shelf.
        said: What it says of itself; None when it can't be read.
        trouble: Why it can't be read; "" when it can.
    """

    name: str
    said: Said | None
    trouble: str = ""


class Shelf(Generic[Said, Loaded]):
    """The files of one folder.

    Args:
        folder: Gives it, made when missing.
        describe: Reads what a file says of itself.
        load: Reads all of it.
        what: A file is called in messages, such as "taste".
    """

    def __init__(
        self, folder: Callable[[], Path], describe: Callable[[Path], Said], load: Callable[[Path], Loaded], what: str
    ) -> None:
        self._folder, self._describe, self._load, self._what = folder, describe, load, what
        self._removed: dict[str, bytes] = {}
        self._loaded: dict[str, tuple[tuple[int, int], Loaded]] = {}
        self._lock = threading.RLock()

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return self._folder()

    def entries(self) -> list[Entry[Said]]:
        """Return all files by name; those that can't be read with the reason."""
        found = []
        for path in sorted(self.folder.glob(f"*{ENDING}")):
            if path.name.startswith("."):
                continue
            try:
                found.append(self.entry(path))
            except PreferenceError as error:
                found.append(Entry(path.name, None, str(error)))
        return found

    def entry(self, path: Path) -> Entry[Said]:
        """Return what a file says of itself.

        Raises:
            FileFormatError: it can't be read.
        """
        return Entry(path.name, self._describe(path))

    def path(self, name: str) -> Path:
        """Return the path of a file on the shelf.

        Raises:
            FileFormatError: there is none of this name.
        """
        if name == Path(name).name and name.endswith(ENDING) and not name.startswith("."):
            path = self.folder / name
            if path.is_file():
                return path
        raise FileFormatError(
            f"Cannot use the {self._what} {name[:80]!r}: it is not on the shelf; expected one of the files under "
            "Share. Bring the file in again."
        )

    def load(self, name: str) -> Loaded:
        """Return what a file holds; read again only when the file changed."""
        path = self.path(name)
        status = path.stat()
        stamp = (status.st_mtime_ns, status.st_size)
        with self._lock:
            kept = self._loaded.get(name)
            if kept is None or kept[0] != stamp:
                kept = self._loaded[name] = stamp, self._load(path)
            return kept[1]

    def remove(self, name: str) -> None:
        """Take a file off the shelf; `restore` brings it back as long as the panel runs.

        Raises:
            FileFormatError: there is none of this name.
            StoreError: the folder can't be written.
        """
        with self._lock:
            path = self.path(name)
            try:
                self._removed[name] = path.read_bytes()
                path.unlink()
            except OSError as error:
                raise StoreError(
                    f"Cannot change the shelf: {error.strerror or error}; expected a folder with room that can be "
                    f"written. Look at {path.parent}."
                ) from error

    def restore(self, name: str) -> Entry[Said]:
        """Put back what was removed.

        Raises:
            FileFormatError: nothing of this name was removed.
        """
        with self._lock:
            data = self._removed.pop(name, None)
            if data is None:
                return self.entry(self.path(name))
            return self.entry(place_taste(name.removesuffix(ENDING), data, self.folder))
