"""Generated pictures and what each was made with, on disk: newest first, bounded, starred ones kept."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...adapters.comparisons.images import encode_png
from ...adapters.errors import ImageError, StoreError
from .shot import Shot, Used

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Gallery"]

ROOM = 500  # pictures without a star
REGRET = 60.0  # s that a deleted picture can be brought back for
_TABLE = """
CREATE TABLE IF NOT EXISTS shots (
    id TEXT PRIMARY KEY, used TEXT NOT NULL UNIQUE, picture TEXT NOT NULL, created REAL NOT NULL,
    seconds REAL NOT NULL, starred INTEGER NOT NULL DEFAULT 0, slider INTEGER NOT NULL DEFAULT 0,
    gone INTEGER NOT NULL DEFAULT 0 -- 0, or when it was deleted
)"""
_PERSON = "json_extract(used, '$.person')"
_FIELDS = "id, used, picture, created, seconds, starred, slider"


class Gallery:
    """Pictures in one folder and their index; several panels may use one folder.

    Args:
        folder: Made when missing.
        room: Pictures without a star that are kept.
        regret: Seconds that a deleted picture can be brought back for.

    Raises:
        StoreError: the folder can't be written, or its index is damaged.
    """

    def __init__(self, folder: Path, room: int = ROOM, regret: float = REGRET) -> None:
        self._folder, self._room = folder, room
        self._lock = threading.RLock()
        with self._index() as index:
            index.execute(_TABLE)
            # Another panel may have deleted one just now, and offers to bring it back.
            index.execute("DELETE FROM shots WHERE gone AND gone <= ?", (time.time() - regret,))
        self._sweep()

    def add(self, image: Image.Image, used: Used, seconds: float, between: bool = False) -> Shot:
        """Keep a picture; made with the same as one that is here, it takes that one's place at the top."""
        data = encode_png(image.convert("RGB"))
        digest = hashlib.sha256(data).hexdigest()
        with self._lock, self._index() as index:
            _alone(index)
            path = self._file(digest)
            if not path.is_file():
                part = path.with_suffix(".part")
                part.write_bytes(data)
                part.replace(path)
            # Browsers keep an id's picture for good: where a newer model paints another one, it gets another id.
            index.execute(
                "INSERT INTO shots (id, used, picture, created, seconds, slider) VALUES (?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (used) DO UPDATE SET created = excluded.created, picture = excluded.picture, "
                "id = CASE picture WHEN excluded.picture THEN id ELSE excluded.id END, "
                "slider = min(slider, excluded.slider), gone = 0",
                (uuid.uuid4().hex, _text(used), digest, time.time(), round(seconds, 3), between),
            )
            row = index.execute(f"SELECT {_FIELDS} FROM shots WHERE used = ?", (_text(used),)).fetchone()
            shot = _shot(row)
        self._prune()
        return shot

    def shots(
        self, between: bool = False, before: float | None = None, count: int = 60, person: str = ""
    ) -> list[Shot]:
        """Return pictures, newest first.

        Args:
            between: With those painted for the slider, too.
            before: Only those made before this time.
            count: At most so many.
            person: Only those painted for this person; "": everybody's.
        """
        with self._index() as index:
            rows = index.execute(
                f"SELECT {_FIELDS} FROM shots WHERE NOT gone AND (? OR NOT slider OR starred) AND created < ? "
                f"AND (? = '' OR {_PERSON} = ?) ORDER BY created DESC LIMIT ?",
                (between, 1e18 if before is None else before, person, person, count),
            ).fetchall()
        return [_shot(row) for row in rows]

    def people(self) -> list[str]:
        """Return for whom the pictures were painted, sorted."""
        with self._index() as index:
            rows = index.execute(f"SELECT DISTINCT {_PERSON} FROM shots WHERE NOT gone ORDER BY 1").fetchall()
        return [str(row[0]) for row in rows]

    def get(self, shot_id: str) -> Shot:
        """Return one picture's entry.

        Raises:
            ImageError: there is none of this id.
        """
        with self._index() as index:
            row = index.execute(f"SELECT {_FIELDS} FROM shots WHERE id = ? AND NOT gone", (shot_id,)).fetchone()
        if row is None:
            raise ImageError(
                "Cannot show this picture: it was deleted; expected one of the gallery. Generate it again."
            )
        return _shot(row)

    def path(self, shot: Shot) -> Path:
        """Return the PNG file of a picture.

        Raises:
            ImageError: the file is gone.
        """
        path = self._file(shot.picture)
        if not path.is_file():
            raise ImageError(
                "Cannot show this picture: its file is gone; expected it in the gallery. Generate it again."
            )
        return path

    def star(self, shot_id: str, starred: bool) -> Shot:
        """Keep a picture whatever comes, or no longer."""
        shot = self.get(shot_id)
        with self._index() as index:
            index.execute("UPDATE shots SET starred = ? WHERE id = ?", (starred, shot_id))
        return replace(shot, starred=starred)

    def delete(self, shot_id: str) -> None:
        """Take a picture out; `restore` brings it back until a panel is opened after `regret` seconds."""
        self.get(shot_id)
        with self._index() as index:
            index.execute("UPDATE shots SET gone = ? WHERE id = ?", (time.time(), shot_id))

    def restore(self, shot_id: str) -> Shot:
        """Bring a deleted picture back."""
        with self._index() as index:
            index.execute("UPDATE shots SET gone = 0 WHERE id = ?", (shot_id,))
        return self.get(shot_id)

    def _prune(self) -> None:
        with self._lock, self._index() as index:
            old = index.execute(
                "SELECT id FROM shots WHERE NOT starred ORDER BY created DESC LIMIT -1 OFFSET ?", (self._room,)
            ).fetchall()
            index.executemany("DELETE FROM shots WHERE id = ?", old)
        if old:
            self._sweep()

    def _sweep(self) -> None:
        """Delete files that no entry speaks of any more."""
        with self._lock, self._index() as index:
            _alone(index)
            known = {row[0] for row in index.execute("SELECT picture FROM shots")}
            for path in self._folder.glob("*.png"):
                if path.stem not in known:
                    path.unlink(missing_ok=True)

    def _file(self, digest: str) -> Path:
        return self._folder / f"{digest}.png"

    @contextmanager
    def _index(self) -> Iterator[sqlite3.Connection]:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self._folder / "index.sqlite", timeout=30.0)
            try:
                with connection:
                    yield connection
            finally:
                connection.close()
        except (sqlite3.Error, OSError) as error:
            if isinstance(error, StoreError):
                raise
            raise StoreError(
                f"Cannot use the gallery: {error}; expected a folder with room that can be read and written. Look at "
                f"{self._folder}, and move it away if it is damaged."
            ) from error


def _alone(index: sqlite3.Connection) -> None:
    """Keep other panels off the folder until the end: a file is there before its entry is."""
    index.execute("BEGIN IMMEDIATE")


def _text(used: Used) -> str:
    values = asdict(used)
    if not used.words:  # what was kept before there were any is the same picture
        del values["words"]
    return json.dumps(values, ensure_ascii=False, sort_keys=True)


def _shot(row: Any) -> Shot:
    values = json.loads(row[1])
    values["tastes"] = tuple((str(source), float(weight)) for source, weight in values["tastes"])
    values["words"] = tuple(values.get("words", ()))
    return Shot(row[0], Used(**values), row[2], row[3], row[4], bool(row[5]), bool(row[6]))
