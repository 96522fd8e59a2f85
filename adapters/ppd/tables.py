"""Prepared pairs as files that grow: each table is rows of one shape, one behind the other, and is mapped, not read.

What was written since the last `keep` is cut off when the folder is opened again, so that a preparation that was killed
goes on from its last whole shard.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..errors import PPDError

__all__ = ["Tables", "facts_in", "prompts_in"]

_FACTS = "facts.json"
_TYPES = {
    "latents": "<f2",
    "vectors": "<f4",
    "rows": "<i8",
    "conditioning": "<f2",
    "pooled": "<f2",
    "sizes": "<i4",
    "marks": "<i8",
    "prompts": "<u1",  # text of all prompts as JSON lines; its shape is a byte
}


class Tables:
    """Tables in a folder.

    Attributes:
        facts: What `keep` wrote last: "about", "done" (shards), "names" (people), "counts" (rows) and "shapes" by
            table, "complete", and whatever else was given.
    """

    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        """Open the tables of the same `about`, or begin new ones in their place.

        Raises:
            PPDError: the folder can't be written.
        """
        self.folder = folder
        with _named(folder):
            folder.mkdir(parents=True, exist_ok=True)
            found = facts_in(folder)
            same = found is not None and found.get("about") == about
            begun: dict[str, Any] = {"about": about, "done": [], "names": [], "counts": {}, "shapes": {}}
            self.facts: dict[str, Any] = found if found is not None and same else {**begun, "complete": False}
            for name in _TYPES:
                self._cut(name)

    def _cut(self, name: str) -> None:
        """Leave what was kept of a table."""
        file = self.folder / f"{name}.bin"
        kept = int(self.facts["counts"].get(name, 0)) * self._bytes(name)
        if file.exists() and file.stat().st_size < kept:
            raise OSError(f"{file.name} is shorter than it was; delete the folder")
        if file.exists() or kept:
            os.truncate(file, kept)

    def _bytes(self, name: str) -> int:
        shape = self.facts["shapes"].get(name, [])
        return int(np.prod(shape, dtype=np.int64)) * np.dtype(_TYPES[name]).itemsize

    def count(self, name: str) -> int:
        """Rows of a table, those that aren't kept yet among them."""
        file = self.folder / f"{name}.bin"
        each = self._bytes(name)
        return file.stat().st_size // each if file.exists() and each else 0

    def add(self, name: str, values: Tensor | npt.NDArray[Any]) -> int:
        """Append rows (R, ...) to a table, and return the number of the first.

        Raises:
            PPDError: the disk is full, or the rows have another shape.
        """
        array = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
        shape = list(array.shape[1:])
        if self.facts["shapes"].setdefault(name, shape) != shape:
            raise PPDError(
                f"Cannot prepare the pairs: {name} of shape {shape}; expected {self.facts['shapes'][name]} as the "
                "others. Prepare them under another name."
            )
        first = self.count(name)
        with _named(self.folder), (self.folder / f"{name}.bin").open("ab") as file:
            file.write(np.ascontiguousarray(array, dtype=_TYPES[name]).tobytes())
        return first

    def keep(self, **more: Any) -> None:
        """Make what was added last beyond a crash.

        Raises:
            PPDError: the disk is full; what was kept before is safe.
        """
        with _named(self.folder):
            counts = {}
            for name in _TYPES:
                file = self.folder / f"{name}.bin"
                if file.exists():
                    counts[name] = self.count(name)
                    with file.open("rb+") as written:
                        os.fsync(written.fileno())
            facts = {**self.facts, **more, "counts": counts}
            temporary = self.folder / f".{_FACTS}"
            with temporary.open("w", encoding="utf-8") as file_of_facts:
                json.dump(facts, file_of_facts)
                file_of_facts.flush()
                os.fsync(file_of_facts.fileno())
            os.replace(temporary, self.folder / _FACTS)
            self.facts = facts

    def table(self, name: str) -> Tensor | None:
        """A table (R, ...) as a tensor that is read from its file where it is looked at; None where there is none."""
        count = int(self.facts["counts"].get(name, 0))
        if not count:
            return None
        shape = (count, *self.facts["shapes"][name])
        # Copy on write: torch wants memory that may be written to, and nothing gets into the file.
        return torch.from_numpy(np.memmap(self.folder / f"{name}.bin", _TYPES[name], "c", shape=shape))

    def prompts(self) -> list[str]:
        """The prompts, in order."""
        found = self.table("prompts")
        text = b"" if found is None else found.numpy().tobytes()
        return [str(json.loads(line)) for line in text.decode().splitlines()]

    def add_prompts(self, prompts: Sequence[str]) -> None:
        """Append prompts."""
        text = "".join(f"{json.dumps(prompt)}\n" for prompt in prompts)
        self.add("prompts", np.frombuffer(text.encode(), np.uint8))


def facts_in(folder: Path) -> dict[str, Any] | None:
    """What the tables in a folder say of themselves; None where there are none."""
    try:
        found = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def prompts_in(folder: Path) -> list[str]:
    """The prompts of tables that were made before, in order."""
    found = facts_in(folder)
    return [] if found is None else Tables(folder, found["about"]).prompts()


@contextlib.contextmanager
def _named(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PPDError(
            f"Cannot prepare the pairs in {folder}: {error}. What was prepared before is safe; make room and start "
            "again with the same name to go on from it."
        ) from error
