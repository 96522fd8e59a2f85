"""Pairs from where other people keep theirs: folders, JSON lines, CSV, parquet as Pick-a-Pic has it."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from ..comparisons.images import read_image
from ..errors import FineTuneError, ImageError, NotEnoughAnswersError
from ..exchange.foreign import Foreign, Lost, Picture
from ..exchange.sources import read_source
from .pairs import LabelledPair

__all__ = ["PICTURES", "FoundPairs", "read_pairs"]

PICTURES = "pictures"  # folder of a training, for pictures that came inside a table


@dataclass(frozen=True)
class FoundPairs:
    """What a source had.

    Attributes:
        pairs: To train on.
        left_out: Ties, and rows that can't be used. why: Of the first such row; "".
    """

    pairs: tuple[LabelledPair, ...]
    left_out: int = 0
    why: str = ""


def read_pairs(
    path: Path,
    folder: Path,
    prompt: str = "",
    limit: int | None = None,
    on_pair: Callable[[int], None] | None = None,
) -> FoundPairs:
    """Read all pairs of a source, one row in memory at a time; ties are left out, the last answer on a pair counts.

    Args:
        path: As `read_source` takes it: a folder with two folders such as `chosen` and `rejected`, whose pictures have
            equal names, with prompts in `.txt` files beside them; `.jsonl`, `.csv` or `.parquet` (streamed), or a
            folder of such.
        folder: Of the training: pictures that come inside a table are put there, each once.
        prompt: Where the source has none.
        limit: Pairs at most; None is all.
        on_pair: Called with the number of pairs so far.

    Raises:
        FileFormatError: nothing of that kind there.
        FineTuneError: pictures can't be written.
        NotEnoughAnswersError: no pair in it; it says why.
    """
    latest: dict[frozenset[Path], LabelledPair] = {}
    left_out, why = 0, ""
    files = _Files(folder)
    for number, answer in enumerate(read_source(path)):
        found = _pairs(answer, files, prompt, number) if isinstance(answer, Foreign) else []
        for pair in found:
            key = frozenset((pair.chosen, pair.rejected))
            latest.pop(key, None)
            latest[key] = pair
        if not found:
            left_out += 1
            why = why or _reason(answer, files)
        if on_pair is not None:
            on_pair(len(latest))
        if limit is not None and len(latest) >= limit:
            break
    if not latest:
        raise NotEnoughAnswersError(
            f"Cannot train on {path.name!r}: found no pair of pictures in {left_out} rows"
            f"{f' ({why})' if why else ''}; expected rows that prefer one of two pictures which are there."
        )
    return FoundPairs(tuple(latest.values())[:limit], left_out, why)


class _Files:
    """Pictures as files, each looked at once: one that is broken would end a training after hours of preparing.

    Those from inside a table go into the training's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / PICTURES
        self._known: dict[Path, Path | None] = {}

    def __call__(self, picture: Picture) -> Path | None:
        """A picture's file; None: it is gone or can't be read."""
        file = picture if isinstance(picture, Path) else self._kept(picture)
        if file not in self._known:
            self._known[file] = file if _whole(file) else None
        return self._known[file]

    def _kept(self, picture: bytes) -> Path:
        kind = "png" if picture[:4] == b"\x89PNG" else "webp" if picture[8:12] == b"WEBP" else "jpg"
        file = self._folder / f"{hashlib.sha256(picture).hexdigest()}.{kind}"
        part = file.with_suffix(f".{os.getpid()}")
        try:
            if not file.is_file():
                file.parent.mkdir(parents=True, exist_ok=True)
                part.write_bytes(picture)
                part.replace(file)
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink()
            raise FineTuneError(
                f"Cannot keep pictures in {file.parent}: {error}. Make room, or limit how many."
            ) from error
        return file


def _whole(file: Path) -> bool:
    try:
        read_image(file)
    except ImageError:
        return False
    return True


def _pairs(answer: Foreign, files: _Files, prompt: str, number: int) -> list[LabelledPair]:
    """One pair of an answer, those that a ranking implies, or none where a picture is lost or nothing is preferred."""
    said = answer.prompt or prompt
    if answer.chosen is not None and answer.rejected is not None:
        chosen, rejected = files(answer.chosen), files(answer.rejected)
        return [LabelledPair(chosen, rejected, said)] if chosen and rejected and chosen != rejected else []
    found = []
    for better, worse in _ordered(answer):
        chosen, rejected = files(better), files(worse)
        if chosen and rejected and chosen != rejected:
            found.append(LabelledPair(chosen, rejected, said, number))
    return found


def _ordered(answer: Foreign) -> Iterator[tuple[Picture, Picture]]:
    """Better and worse picture of any two tiers."""
    for better, worse in combinations(answer.tiers, 2):
        for first in better:
            for second in worse:
                yield answer.images[first], answer.images[second]


def _reason(answer: Foreign | Lost, files: _Files) -> str:
    if isinstance(answer, Lost):
        return f"{answer.where}: {answer.why}"
    if next(_ordered(answer), None) is None and answer.chosen is None:
        return "ties say nothing here"
    for picture in answer.images:
        if files(picture) is None:
            name = picture.name if isinstance(picture, Path) else "a picture in the table"
            gone = isinstance(picture, Path) and not picture.is_file()
            return f"{name} is gone" if gone else f"{name} can't be read"
    return "both pictures are the same"
