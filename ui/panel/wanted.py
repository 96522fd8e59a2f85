"""What a person wants to compare, kept in Palate's folder so that a restart goes on with it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

from ...adapters.places import safe_name

__all__ = ["Wanted", "Wishes"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """A folder of pictures; else one prompt; else, both "", many example prompts."""

    prompt: str = ""
    folder: str = ""


class Wishes:
    """One small file a person.

    Args:
        folder: Where the files are; made when first needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()

    def of(self, person: str) -> Wanted | None:
        """Return what this person wanted last; None when that is unknown."""
        with contextlib.suppress(OSError, LookupError, ValueError, TypeError):
            found = json.loads(self._file(person).read_text(encoding="utf-8"))
            return Wanted(str(found["prompt"]), str(found["folder"]))
        return None

    def keep(self, person: str, wanted: Wanted) -> None:
        """Remember it. Where that fails the panel goes on, and only forgets it."""
        file = self._file(person)
        with self._lock:
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                new = file.with_suffix(".new")
                new.write_text(json.dumps(asdict(wanted)), encoding="utf-8")
                os.replace(new, file)
            except OSError as error:
                logger.warning("what to compare could not be kept in %s: %s", file, error)

    def _file(self, person: str) -> Path:
        return self._folder / f"{safe_name(person)}.json"
