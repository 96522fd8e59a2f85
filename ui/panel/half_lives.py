"""After how many days an answer counts half, for a taste that changes: kept of each person in Palate's folder."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
from pathlib import Path
from typing import Any

from ...adapters.errors import ComparisonError
from ...adapters.places import safe_name

__all__ = ["LONGEST", "HalfLives"]

logger = logging.getLogger(__name__)

LONGEST = 36500.0  # days, as Fit Taste has it


class HalfLives:
    """One number a person; none counts all answers alike.

    Args:
        folder: Where the files are; made when first needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, float | None] = {}
        self._lock = threading.Lock()

    def of(self, person: str) -> float | None:
        """Return the days after which an answer of this person counts half; None for never."""
        with self._lock:
            if person not in self._known:
                found = None
                with contextlib.suppress(OSError, ValueError, ComparisonError):
                    found = _days(json.loads(self._file(person).read_text(encoding="utf-8")))
                self._known[person] = found
            return self._known[person]

    def keep(self, person: str, days: Any) -> None:
        """Set it; None or 0 counts all alike. Where it can't be kept it is forgotten at the panel's end.

        Raises:
            ComparisonError: it is no number of days.
        """
        half_life = _days(days)
        file = self._file(person)
        with self._lock:
            self._known[person] = half_life
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                new = file.with_suffix(".new")
                new.write_text(json.dumps(half_life), encoding="utf-8")
                os.replace(new, file)
            except OSError as error:
                logger.warning("the half-life could not be kept in %s: %s", file, error)

    def move(self, person: str, name: str | None = None) -> None:
        """It belongs to this name now, as the person's answers do; None: to nobody."""
        days = self.of(person)
        if name == person:
            return
        if name is not None and days != self.of(name):
            self.keep(name, days)
        if days is not None:
            self.keep(person, None)

    def _file(self, person: str) -> Path:
        return self._folder / f"{safe_name(person)}.json"


def _days(value: Any) -> float | None:
    if value is None or value == "":
        return None
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0.0 <= value <= LONGEST:
        raise ComparisonError(
            f"Cannot use the half-life {str(value)[:40]!r}: expected days above 0, {LONGEST:.0f} at most. Leave it "
            "empty to count all answers alike."
        )
    return float(value) or None
