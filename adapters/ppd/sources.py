"""Where the answers of many people come from: a store, or a data set in files, a piece at a time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..comparisons import PreferenceStore
from ..errors import FileFormatError, NotEnoughAnswersError
from ..exchange.foreign import Foreign, Lost
from ..exchange.sources import read_source
from ..finetune.pairs import pairs_of

__all__ = ["AnswerSource", "DataSet", "StoreAnswers"]

_TABLES = (".parquet", ".jsonl", ".json", ".csv")


class AnswerSource(Protocol):
    """Answers, in shards that are prepared one after the other."""

    @property
    def identity(self) -> str:
        """Another one where anything in it changed."""
        ...

    def shards(self) -> Sequence[str]:
        """Their names, in order."""
        ...

    def count(self) -> int | None:
        """How many answers; None where that would take reading all of them."""
        ...

    def answers(self, shard: str) -> Iterator[Foreign | Lost]:
        """What is in a shard."""
        ...


@dataclass(frozen=True)
class StoreAnswers:
    """The answers of everybody in a store; each person is a shard.

    Attributes:
        store: Open. people: Who counts; empty for everybody.
    """

    store: PreferenceStore
    people: tuple[str, ...] = ()

    @property
    def identity(self) -> str:
        digest = hashlib.sha256()
        for shard in self.shards():
            for answer in self.answers(shard):
                if isinstance(answer, Foreign):
                    names = [Path(str(picture)).name for picture in answer.images]
                    digest.update(json.dumps([shard, *names, answer.prompt]).encode())
        return digest.hexdigest()

    def shards(self) -> Sequence[str]:
        return sorted(self.people or self.store.people())

    def count(self) -> int | None:
        return sum(1 for shard in self.shards() for _ in self.answers(shard))

    def answers(self, shard: str) -> Iterator[Foreign | Lost]:
        try:
            pairs = pairs_of(self.store, shard)
        except NotEnoughAnswersError:
            return
        for pair in pairs:
            yield Foreign((pair.chosen, pair.rejected), "left", prompt=pair.prompt, person=shard)


@dataclass(frozen=True)
class DataSet:
    """Files of rows such as Pick-a-Pic's parquet shards; each file is a shard, and is never read as a whole.

    Attributes:
        path: A file, or a folder of files.
    """

    path: Path

    @property
    def identity(self) -> str:
        facts = [(shard, (self._root / shard).stat().st_size) for shard in self.shards()]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    @property
    def _root(self) -> Path:
        return self.path.parent if self.path.is_file() else self.path

    def _files(self) -> list[Path]:
        if self.path.is_file():
            return [self.path]
        found = sorted(file for file in self.path.rglob("*") if file.suffix.lower() in _TABLES and file.is_file())
        if not found:
            what = "no such file" if self.path.is_dir() else "no such folder"
            raise FileFormatError(
                f"Cannot read answers from {self.path}: found {what}; expected a folder of {', '.join(_TABLES)} files."
            )
        return found

    def shards(self) -> Sequence[str]:
        # By their place in the data set: parts are often called alike, and all of it may lie elsewhere when it goes on.
        return [file.relative_to(self._root).as_posix() for file in self._files()]

    def count(self) -> int | None:
        files = self._files()
        if any(file.suffix.lower() != ".parquet" for file in files):
            return None
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile

        total = 0
        for file in files:
            try:
                with ParquetFile(file) as table:
                    total += int(table.metadata.num_rows)
            except (ArrowException, OSError, ValueError):
                continue  # it is told of when it is its turn
        return total

    def answers(self, shard: str) -> Iterator[Foreign | Lost]:
        yield from read_source(self._root / shard)
