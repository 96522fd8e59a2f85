"""From a file or a folder to answers, one after the other, however large it is."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import FileFormatError
from .foreign import Foreign, Lost, picture_in, within
from .parquet import parquet_rows
from .rows import answer_of

__all__ = ["caption_of", "pictures_of", "read_source"]

MAX_LINE = 1 << 22  # characters
MAX_JSON = 1 << 28  # bytes of a list in one piece
_BEST = ("chosen", "winner", "winners", "win", "preferred", "good")
_REST = ("rejected", "loser", "losers", "lose", "dispreferred", "bad")
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".avif")
_CAPTIONS = (".txt", ".caption")
Rows = Iterator[tuple[str, Mapping[str, Any]]]


def read_source(path: Path, images: Path | None = None) -> Iterator[Foreign | Lost]:
    """Yield the answers of a file or folder; what can't be used comes as `Lost`, in its place.

    Args:
        path: A `.jsonl`, `.json`, `.csv` or `.parquet` file in one of the ways of `rows.py`; a folder of such files; or
            a folder with two folders, such as `chosen` and `rejected`, of pictures with equal names, and prompts in
            `.txt` files of the same name beside them.
        images: Folder that relative names of pictures start from; None is the file's own.

    Raises:
        FileFormatError: nothing of that kind there, or it can't be read.
    """
    try:
        yield from _all(path, images)
    except OSError as error:  # no right to read it, or a disk that went away
        raise FileFormatError(
            f"Cannot read answers from {path}: {error.strerror or error}; expected what can be read."
        ) from error


def _all(path: Path, images: Path | None) -> Iterator[Foreign | Lost]:
    if path.is_dir():
        pair = _two_folders(path)
        if pair is not None:
            yield from _pairs_of_files(path, *pair)
            return
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in _READERS and file.is_file())
        if not files:
            raise FileFormatError(
                f"Cannot read answers from {path}: found neither folders such as 'chosen' and 'rejected' nor a file; "
                f"expected those, or {', '.join(_READERS)}."
            )
        for file in files:
            yield from _answers(file, images or path)
    elif path.is_file() and path.suffix.lower() in _READERS:
        yield from _answers(path, images or path.parent)
    else:
        found = f"a {path.suffix or 'file without ending'}" if path.exists() else "no such file or folder"
        raise FileFormatError(
            f"Cannot read answers from {path}: found {found}; expected a folder or {', '.join(_READERS)}."
        )


def _answers(file: Path, root: Path) -> Iterator[Foreign | Lost]:
    picture = picture_in(root)
    for where, row in _grouped(_READERS[file.suffix.lower()](file)):
        try:
            if "broken" in row and isinstance(row["broken"], FileFormatError):
                raise row["broken"]
            answer = answer_of(row, picture)
        except FileFormatError as error:
            yield Lost(f"{file.name}, {where}", str(error))
            continue
        if answer is not None:
            yield answer


def _grouped(rows: Rows) -> Rows:
    """Rows of one picture each, with a rank among those of one prompt (ImageRewardDB), put together."""
    waiting: dict[str, list[Mapping[str, Any]]] = {}
    for where, row in rows:
        if row.get("prompt_id") is not None and isinstance(row.get("image_path"), str) and row.get("rank") is not None:
            waiting.setdefault(str(row["prompt_id"]), []).append(row)
        else:
            yield where, row
    for name, parts in waiting.items():
        ranks = [part["rank"] for part in parts]
        together = {"image_path": [part["image_path"] for part in parts], "rank": ranks}
        yield f"prompt {name[:40]}", {**together, "prompt": parts[0].get("prompt")}


# -- tables


def _json_lines(file: Path) -> Rows:
    with file.open(encoding="utf-8-sig", errors="replace") as lines:
        number = 0
        while line := lines.readline(MAX_LINE):
            number += 1
            if line.strip():
                yield f"line {number}", _object(line)


def _json_list(file: Path) -> Rows:
    if file.stat().st_size > MAX_JSON:
        yield "all", {"broken": FileFormatError(f"it is larger than {MAX_JSON:,} bytes; expected JSON lines instead")}
        return
    try:
        found = json.loads(file.read_text(encoding="utf-8-sig", errors="replace"))
    except (ValueError, RecursionError) as error:
        yield "all", {"broken": FileFormatError(f"it is no JSON ({str(error)[:80]})")}
        return
    for number, row in enumerate(found if isinstance(found, list) else [found], 1):
        yield f"entry {number}", row if isinstance(row, dict) else {"broken": FileFormatError("it is no object")}


def _object(line: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    return row if isinstance(row, dict) else {"broken": FileFormatError("it is no JSON object, or longer than 4 MB")}


def _table(file: Path) -> Rows:
    with file.open(encoding="utf-8-sig", errors="replace", newline="") as lines:
        try:
            short = iter(lambda: lines.readline(MAX_LINE), "")  # csv would take a line of any length into memory
            for number, row in enumerate(csv.DictReader(short), 2):
                yield f"line {number}", {str(name).strip().lower(): cell for name, cell in row.items() if name}
        except csv.Error as error:
            yield "the rest", {"broken": FileFormatError(f"it is no CSV ({error})")}


_READERS: dict[str, Callable[[Path], Rows]] = {
    ".jsonl": _json_lines,
    ".json": _json_list,
    ".csv": _table,
    ".parquet": parquet_rows,
}


# -- folders


def _two_folders(path: Path) -> tuple[Path, Path] | None:
    named = {one.name.lower(): one for one in path.iterdir() if one.is_dir()}
    best = next((named[name] for name in _BEST if name in named), None)
    rest = next((named[name] for name in _REST if name in named), None)
    return None if best is None or rest is None else (best, rest)


def _pairs_of_files(path: Path, best: Path, rest: Path) -> Iterator[Foreign | Lost]:
    others = {file.stem: file for file in pictures_of(rest)}
    for file in pictures_of(best):
        where, other = f"{best.name}/{file.name}", others.pop(file.stem, None)
        if other is None:
            yield Lost(where, f"{rest.name} has no picture of this name")
        elif not all(_inside(path, one) for one in (file, other)):
            yield Lost(where, f"a link leads out of {path}; put the picture itself there")
        else:
            yield Foreign((file, other), "left", prompt=caption_of(file.stem, (best, rest, path), path))
    for other in others.values():
        yield Lost(f"{rest.name}/{other.name}", f"{best.name} has no picture of this name")


def _inside(root: Path, file: Path) -> bool:
    """Whether a file is where it says: what comes in may be passed on, and must be the folder's own (`within`)."""
    try:
        within(root, str(file.relative_to(root)))
    except FileFormatError:
        return False
    return True


def pictures_of(folder: Path) -> list[Path]:
    """Pictures of a folder by name, those of folders in it left out."""
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in _PICTURES and file.is_file())


def caption_of(stem: str, folders: tuple[Path, ...], root: Path | None = None) -> str:
    """What a text file of a picture's name says, in the first of these folders that has one; "" without.

    With a root, links that lead out of it are none.
    """
    for folder in folders:
        for ending in _CAPTIONS:
            file = folder / f"{stem}{ending}"
            if file.is_file() and (root is None or _inside(root, file)):
                with file.open(encoding="utf-8", errors="replace") as text:
                    return text.read(MAX_LINE).strip()
    return ""
