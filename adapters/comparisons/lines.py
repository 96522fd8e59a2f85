"""A person's answers as JSON lines: for a notebook, a training script, or to keep."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

from .store import PreferenceStore

__all__ = ["write_lines"]


def write_lines(store: PreferenceStore, person: str, file: Path) -> int:
    """Write one comparison a line, oldest first, and return how many; a file of that name is replaced whole.

    The fields are those of `Comparison`, with `chosen` and `rejected` where one side was preferred. What a ranking
    implied is there comparison by comparison, with the ranking's number. Images are named by id, and stay in the store.

    Raises:
        OSError: the file can't be written; what was there before is still there.
    """
    comparisons = store.comparisons(person)
    draft = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    try:
        with draft.open("w", encoding="utf-8") as out:
            for one in comparisons:
                row = asdict(one) | {"chosen": one.chosen, "rejected": one.rejected}
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
    return len(comparisons)
