"""What a person wants to compare, kept in Palate's folder so that a restart goes on with it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ...adapters.errors import ComparisonError
from ...adapters.places import safe_name

__all__ = ["WAYS", "Wanted", "Wishes"]

logger = logging.getLogger(__name__)


WAYS = {"pairs": 2, "best": 4, "order": 4}  # of asking, and how many pictures are on the screen


@dataclass(frozen=True)
class Wanted:
    """A folder of pictures; else one prompt; else, both "", many example prompts.

    Attributes:
        way: How it is asked: "pairs", "best" (the best of four) or "order" (put four in order).
        surprise: Share of the choice that is left to variety, 0 to 1.

    Raises:
        ComparisonError: there is no such way, or no such share.
    """

    prompt: str = ""
    folder: str = ""
    way: str = "pairs"
    surprise: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.way, str) or self.way not in WAYS:
            raise ComparisonError(
                f"Cannot ask in the way {str(self.way)[:40]!r}: expected one of {', '.join(WAYS)}. Choose one of them."
            )
        number = isinstance(self.surprise, (int, float)) and not isinstance(self.surprise, bool)
        if not number or not 0.0 <= self.surprise <= 1.0:
            raise ComparisonError(
                f"Cannot ask with surprise {str(self.surprise)[:40]!r}: expected 0 to 1. Move the slider."
            )

    @property
    def size(self) -> int:
        """How many pictures are on the screen."""
        return WAYS[self.way]


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
            what = Wanted(str(found["prompt"]), str(found["folder"]))
            with contextlib.suppress(LookupError, ValueError, TypeError):  # an older panel kept no more
                return replace(what, way=found["way"], surprise=found["surprise"])
            return what
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
