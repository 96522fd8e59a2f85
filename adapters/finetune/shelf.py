"""What pairs were made into, on the disk: tensors one behind the other in a file that is mapped, not read.

A Pick-a-Pic of latents and prompts is a hundred gigabytes; what is in memory is where each of them stands. A second
file has a line for each tensor, written after it, so that a preparation that was stopped or killed goes on.

    tensors.bin    float32, as it is computed with: what comes back is what went in, to the bit
    tensors.jsonl  the first line says what for; each other one ["key", [shape]]
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..errors import FineTuneError

__all__ = ["Rows", "Shelf"]

_NUMBERS, _LINES = "tensors.bin", "tensors.jsonl"
_BYTES = 4
_KEPT_EVERY = 256  # tensors, of which a crash of the machine can cost as many


class Shelf:
    """Tensors by key. Use as a context; one process at a time (`only_training`).

    Args:
        folder: Of the two files, made when missing.
        about: What the tensors hang on beside their keys, such as the model; those of another one make room.

    Raises:
        FineTuneError: it can't be written.
    """

    def __init__(self, folder: Path, about: str) -> None:
        self.folder, self._about = folder, about
        self._places: dict[str, int] = {}
        self._starts, self._shapes = [0], list[tuple[int, ...]]()  # in numbers, not bytes
        self._mapped: npt.NDArray[np.float32] | None = None
        with _named(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._numbers = (folder / _NUMBERS).open("ab")
            self._lines = (folder / _LINES).open("ab")
            self._go_on()

    def __enter__(self) -> Shelf:
        return self

    def __exit__(self, *_: object) -> None:
        self._mapped = None
        for file in (self._numbers, self._lines):
            with contextlib.suppress(OSError):  # a full disk: what gets lost is made again
                file.close()

    def __len__(self) -> int:
        return len(self._shapes)

    def find(self, key: str) -> int | None:
        """The place of what was put there under a key; None: nothing was."""
        return self._places.get(key)

    def add(self, key: str, value: Tensor) -> int:
        """Put a tensor behind the others, and return its place.

        Raises:
            FineTuneError: the disk is full; what is there stays.
        """
        numbers = np.ascontiguousarray(value.detach().to("cpu", torch.float32).numpy())
        with _named(self.folder):
            self._numbers.write(numbers.tobytes())
            self._lines.write(f"{json.dumps([key, list(numbers.shape)])}\n".encode())
            if len(self) % _KEPT_EVERY == _KEPT_EVERY - 1:
                self.keep()
        return self._know(key, numbers.shape)

    def keep(self) -> None:
        """Make what was added last beyond a crash.

        Raises:
            FineTuneError: the disk is full; what was kept before stays.
        """
        with _named(self.folder):
            for file in (self._numbers, self._lines):
                file.flush()
                os.fsync(file.fileno())

    def shape(self, place: int) -> tuple[int, ...]:
        """Of a tensor; nothing is read."""
        return self._shapes[place]

    def __getitem__(self, place: int) -> Tensor:
        start, end = self._starts[place], self._starts[place + 1]
        if self._mapped is None or len(self._mapped) < end:
            with _named(self.folder):
                self._numbers.flush()
                # Only to read: the system promises memory for all that may be written to, however large the file is.
                self._mapped = np.memmap(self.folder / _NUMBERS, "<f4", "r", shape=(self._starts[-1],))
        return torch.from_numpy(np.array(self._mapped[start:end]).reshape(self._shapes[place]))

    def forget(self) -> None:
        """Delete the files, once nothing of them is needed any more."""
        self.__exit__()
        for name in (_LINES, _NUMBERS):
            with contextlib.suppress(OSError):
                (self.folder / name).unlink()

    def _know(self, key: str, shape: tuple[int, ...]) -> int:
        self._places[key] = len(self)
        self._shapes.append(shape)
        self._starts.append(self._starts[-1] + math.prod(shape))
        return len(self) - 1

    def _go_on(self) -> None:
        """Take what both files have whole; cut off what only one has."""
        written, whole = (self.folder / _NUMBERS).stat().st_size // _BYTES, 0
        with (self.folder / _LINES).open("rb") as lines:
            if _said(lines.readline()) == self._about:
                whole = lines.tell()
                for line in lines:
                    said = _said(line)
                    if not _is_entry(said) or self._starts[-1] + math.prod(said[1]) > written:
                        break
                    self._know(str(said[0]), tuple(said[1]))
                    whole += len(line)
        os.truncate(self.folder / _NUMBERS, self._starts[-1] * _BYTES)
        os.truncate(self.folder / _LINES, whole)
        if not whole:
            self._lines.write(f"{json.dumps(self._about)}\n".encode())


class Rows(Sequence[Tensor]):
    """Some tensors of a shelf in an order, each read when it is asked for."""

    def __init__(self, shelf: Shelf, places: Sequence[int]) -> None:
        self._shelf, self._places = shelf, np.asarray(places, np.int64)

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> Rows: ...
    def __getitem__(self, index: int | slice) -> Tensor | Rows:
        if isinstance(index, slice):
            return Rows(self._shelf, self._places[index])  # type: ignore[arg-type]
        return self._shelf[int(self._places[index])]

    def shape(self, index: int) -> tuple[int, ...]:
        """Of one; nothing is read."""
        return self._shelf.shape(int(self._places[index]))


def _said(line: bytes) -> Any:
    try:
        return json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None


def _is_entry(said: Any) -> bool:
    return (
        isinstance(said, list)
        and len(said) == 2
        and isinstance(said[0], str)
        and isinstance(said[1], list)
        and all(isinstance(side, int) and side >= 0 for side in said[1])
    )


@contextlib.contextmanager
def _named(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FineTuneError(
            f"Cannot keep what the pictures were made into in {folder}: {error}. What was made before is safe; make "
            "room and start again with the same name to go on from it, or limit how many pairs."
        ) from error
