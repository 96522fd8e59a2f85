"""Saved pages of tastes: made in the background, kept in PALATE_HOME/pages."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ...adapters.errors import CancelledError, FileFormatError, StoreError
from ...adapters.places import palate_home, safe_name
from .taste_document import Sheet, document

if TYPE_CHECKING:
    from .jobs import Job
    from .studio import Studio
    from .taste_learned import Looks

__all__ = ["Pages"]

ENDING = ".html"
NOBODY = "a-taste"  # the file's name where the person's is left out


class Pages:
    """Pages of people's tastes.

    Args:
        studio: Store and reports.
        looks: What was learned.
    """

    def __init__(self, studio: Studio, looks: Looks) -> None:
        self._studio, self._looks = studio, looks

    def html(
        self,
        person: str,
        subject: str = "",
        named: bool = False,
        prompts: bool = False,
        tell: Callable[[int, int], None] | None = None,
    ) -> str:
        """Return the page of a person.

        Raises:
            NotEnoughAnswersError: nothing to learn from yet.
        """
        from ..cli import version

        learned, report = self._looks.of(person, subject), self._studio.reports.of(person)
        sheet = Sheet(learned, report, named, prompts, version(), time.time())
        return document(sheet, self._studio.store.image, tell)

    def save(self, person: str, subject: str, named: bool, prompts: bool, job: Job) -> None:
        """Save the page; the job's `file` tells its name and `path` where it is.

        Raises:
            CancelledError: the job was stopped; nothing is kept.
            PreferenceError: nothing to learn from yet, or no room.
        """

        def tell(done: int, count: int) -> None:
            if job.cancelled():
                raise CancelledError("Stopped; nothing was kept.")
            job.tell(done / max(count, 1), f"Gathering pictures… {done} of {count}")

        job.tell(0.0, "Learning from the answers…")
        html = self.html(person, subject, named, prompts, tell)
        path = palate_home() / "pages" / f"{safe_name(person) if named else NOBODY}{ENDING}"
        write_page(path, html)
        job.found.update({"file": path.name, "path": str(path)})

    def path(self, name: str) -> Path:
        """Return the path of a saved page.

        Raises:
            FileFormatError: there is none of this name.
        """
        path = palate_home() / "pages" / name
        if name == Path(name).name and name.endswith(ENDING) and path.is_file():
            return path
        raise FileFormatError(f"Cannot give {name[:80]!r}: there is no such page; expected one that was saved.")


def write_page(path: Path, html: str) -> None:
    """Write a page, all or nothing.

    Raises:
        StoreError: there is no room, or no right to.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(html, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise StoreError(
            f"Cannot save the page: {error.strerror or error}; expected a folder with room that can be written. Look "
            f"at {path.parent}."
        ) from error
