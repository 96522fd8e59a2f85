"""One answer as somebody else's file has it, before any of its pictures was opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import FileFormatError

__all__ = ["Foreign", "Lost", "Picture", "picture_in", "within"]

Picture = Path | bytes
MAX_PICTURE = 64 << 20  # bytes of one picture inside a table


@dataclass(frozen=True)
class Foreign:
    """One answer.

    Attributes:
        images: As shown, two or more.
        outcome: Of two, one of "left", "right", "tie"; of more, "ranked".
        tiers: Of more than two: places in `images`, the best tier first.
        prompt: "" when the file doesn't say. person: As the file calls them; "" likewise.
        model: What made the images; "" likewise.
        seeds: Of two, where the file says: None where it doesn't.
        much: Of two, whether the preferred one is much better, where the file says; None likewise.
    """

    images: tuple[Picture, ...]
    outcome: str
    tiers: tuple[tuple[int, ...], ...] = ()
    prompt: str = ""
    person: str = ""
    model: str = ""
    seeds: tuple[int | None, int | None] = (None, None)
    much: bool | None = None

    @property
    def chosen(self) -> Picture | None:
        """Of two, the preferred one; None for a tie or more than two."""
        return {"left": self.images[0], "right": self.images[1]}.get(self.outcome)

    @property
    def rejected(self) -> Picture | None:
        """Of two, the other one; None likewise."""
        return {"left": self.images[1], "right": self.images[0]}.get(self.outcome)


@dataclass(frozen=True)
class Lost:
    """A row that can't be used. where: Such as "line 12". why: One sentence."""

    where: str
    why: str


def within(root: Path, name: str) -> Path:
    """Return the file of this name in a folder.

    A data set is somebody else's text: it must not get a picture from anywhere else of this disk into the store, from
    where it might be shared.

    Raises:
        FileFormatError: it leads out of the folder, also by way of a link, or can't be a name.
    """
    try:
        base = root.resolve()
        path = (base / name).resolve()
        inside = path.is_relative_to(base)
        path.is_file()  # a name that is too long shows only now
    except (OSError, ValueError, RuntimeError) as error:  # a zero byte, a name too long, links in a circle
        raise FileFormatError(f"it names {name[:80]!a}, which can't be a file") from error
    if not inside:
        raise FileFormatError(f"it names {name[:80]!a}, outside of {base}; name the pictures' folder with --images")
    return path


def picture_in(root: Path) -> Callable[[Any], Picture]:
    """Return what turns a cell of a row into a picture: a path in `root`, bytes, or datasets' {"bytes", "path"}.

    What is returned raises `FileFormatError` for more than `MAX_PICTURE` bytes, for a path that leads out of `root`,
    and for anything else.
    """

    def picture(cell: Any) -> Picture:
        if isinstance(cell, dict):
            cell = cell.get("bytes") or cell.get("path")
        if isinstance(cell, (bytes, bytearray, memoryview)):
            if len(cell) > MAX_PICTURE:
                raise FileFormatError(f"one of its pictures has {len(cell):,} bytes; expected at most {MAX_PICTURE:,}")
            return bytes(cell)
        if isinstance(cell, str) and cell:
            return within(root, cell)
        raise FileFormatError(f"one of its pictures is {type(cell).__name__}; expected a file's name or its bytes")

    return picture
