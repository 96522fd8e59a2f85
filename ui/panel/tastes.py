"""What people learned as files: tastes, which move a prompt, and users of a PPD, which move the denoiser."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...adapters.files import (
    TasteFile,
    UserFile,
    bring_taste,
    bring_user,
    describe,
    describe_user,
    load_taste,
    load_user,
    place_taste,
    save_user,
    taste_picture,
)
from ...adapters.places import safe_name, users_folder
from ...adapters.ppd import User
from ...adapters.taste import Taste
from .shelf import ENDING, Entry, Shelf

if TYPE_CHECKING:
    from .studio import Studio

__all__ = ["TasteFiles", "UserFiles"]

NOBODY = "somebody"  # whose it is when the name is left out


def _names_here(studio: Studio) -> set[str]:
    """Names that Save writes to: a friend who is "me", too, gets a number."""
    return {safe_name(person) for person in (studio.person, *studio.store.people())}


class TasteFiles(Shelf[TasteFile, Taste]):
    """The taste files, whatever encoder each belongs to.

    Args:
        studio: Gives the folder, and tastes by person.
    """

    def __init__(self, studio: Studio) -> None:
        super().__init__(
            lambda: studio.tastes_folder, describe, lambda path: studio.tools.load(path, None), what="taste"
        )
        self._studio = studio

    def add(self, name: str, data: bytes) -> Entry[TasteFile]:
        """Put a file on the shelf; the same file twice is one, another one of the same name gets a number.

        What a picture carries is taken out of it.

        Args:
            name: As it was called where it came from.
            data: Its bytes.

        Raises:
            FileFormatError: it is no taste; nothing is kept.
        """
        with self._lock:
            return self.entry(bring_taste(name, data, self.folder, _names_here(self._studio)))

    def save(self, person: str, named: bool = True) -> Entry[TasteFile]:
        """Save the person's taste as a file; `named` False leaves out whose it is."""
        if named:
            return self.entry(self._studio.save_taste(person))
        accuracy = self._studio.reports.of(person).measured
        taste = replace(self._studio.taste(person), person=NOBODY, accuracy=accuracy)
        with tempfile.TemporaryDirectory() as folder:
            path = self._studio.tools.save(taste, Path(folder) / f"{NOBODY}{ENDING}")
            return self.entry(place_taste(NOBODY, path.read_bytes(), self.folder))

    def picture(self, name: str) -> bytes:
        """Return a PNG that shows a taste of the shelf and carries its file."""
        return taste_picture(load_taste(self.path(name)))


class UserFiles(Shelf[UserFile, User]):
    """The user files, whatever PPD each belongs to.

    Args:
        studio: Gives the people who answer here.
    """

    def __init__(self, studio: Studio) -> None:
        super().__init__(users_folder, describe_user, load_user, what="user file")
        self._studio = studio

    def add(self, name: str, data: bytes) -> Entry[UserFile]:
        """Put a file on the shelf, as `TasteFiles.add` does.

        Raises:
            FileFormatError: it is no user embedding; nothing is kept.
        """
        with self._lock:
            return self.entry(bring_user(name, data, self.folder, _names_here(self._studio)))

    def save(self, user: User, person: str, named: bool = True) -> Entry[UserFile]:
        """Save a person's embedding as a file; `named` False leaves out whose it is."""
        if named:
            return self.entry(save_user(user, self.folder / safe_name(person)))
        with tempfile.TemporaryDirectory() as folder:
            path = save_user(replace(user, person=""), Path(folder) / NOBODY)
            return self.entry(place_taste(NOBODY, path.read_bytes(), self.folder))
