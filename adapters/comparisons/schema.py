"""The tables of the store, one step for each version. A step that was released is never edited, only followed."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from ..errors import NewerStoreError, StoreError

__all__ = ["APPLICATION_ID", "MIGRATIONS", "VERSION", "check_readable", "migrate"]

APPLICATION_ID = 0x50414C54  # "PALT": tells our file from any other SQLite file

# Seeds are text: ComfyUI's go up to 2**64 - 1, and SQLite's integers end at 2**63 - 1.
_STEP_1 = (
    """CREATE TABLE images (
        id TEXT PRIMARY KEY, pixels TEXT NOT NULL UNIQUE, width INTEGER NOT NULL, height INTEGER NOT NULL,
        created REAL NOT NULL)""",
    """CREATE TABLE comparisons (
        id INTEGER PRIMARY KEY AUTOINCREMENT, person TEXT NOT NULL, left_image TEXT NOT NULL,
        right_image TEXT NOT NULL, outcome TEXT NOT NULL, prompt TEXT NOT NULL, left_seed TEXT, right_seed TEXT,
        model TEXT NOT NULL, source TEXT NOT NULL, seconds REAL, created REAL NOT NULL)""",
    "CREATE INDEX comparisons_person ON comparisons (person, id)",
    # Counted apart from the rows: an undo takes a row away and must still raise the number.
    "CREATE TABLE revisions (person TEXT PRIMARY KEY, revision INTEGER NOT NULL)",
)
_STEP_2 = (
    "CREATE TABLE encoders (id INTEGER PRIMARY KEY, identity TEXT NOT NULL UNIQUE, width INTEGER NOT NULL)",
    """CREATE TABLE vectors (
        encoder INTEGER NOT NULL REFERENCES encoders (id), image TEXT NOT NULL, vector BLOB NOT NULL,
        UNIQUE (encoder, image))""",
    """CREATE TABLE offers (
        id TEXT PRIMARY KEY, person TEXT NOT NULL, left_image TEXT NOT NULL, right_image TEXT NOT NULL,
        prompt TEXT NOT NULL, left_seed TEXT, right_seed TEXT, model TEXT NOT NULL, source TEXT NOT NULL,
        created REAL NOT NULL, comparison INTEGER REFERENCES comparisons (id))""",
    "CREATE INDEX offers_open ON offers (person, created) WHERE comparison IS NULL",
    "CREATE INDEX offers_comparison ON offers (comparison) WHERE comparison IS NOT NULL",
)
# Lists are JSON. Tiers are places in `images`: [[2], [0, 1, 3]] says that the third of four was the best.
_STEP_3 = (
    """CREATE TABLE rankings (
        id INTEGER PRIMARY KEY AUTOINCREMENT, person TEXT NOT NULL, images TEXT NOT NULL, tiers TEXT NOT NULL,
        outcome TEXT NOT NULL, prompt TEXT NOT NULL, seeds TEXT NOT NULL, model TEXT NOT NULL, source TEXT NOT NULL,
        seconds REAL, created REAL NOT NULL)""",
    "CREATE INDEX rankings_person ON rankings (person, id)",
    "ALTER TABLE comparisons ADD COLUMN ranking INTEGER REFERENCES rankings (id)",
    "CREATE INDEX comparisons_ranking ON comparisons (ranking, id) WHERE ranking IS NOT NULL",
    # All that counting people's answers looks at, so that it never reads the rows themselves.
    "DROP INDEX comparisons_person",
    "CREATE INDEX comparisons_person ON comparisons (person, id, outcome, ranking, created)",
    "ALTER TABLE offers ADD COLUMN others TEXT NOT NULL DEFAULT '[]'",
    "ALTER TABLE offers ADD COLUMN other_seeds TEXT NOT NULL DEFAULT '[]'",
)
# 1 where the preferred one is much better, 0 where it isn't; NULL where nobody was asked.
_STEP_4 = ("ALTER TABLE comparisons ADD COLUMN much INTEGER",)
MIGRATIONS: Sequence[Sequence[str]] = (_STEP_1, _STEP_2, _STEP_3, _STEP_4)
VERSION = len(MIGRATIONS)


def check_readable(connection: sqlite3.Connection, file: Path) -> int:
    """Return the schema version of a file, 0 for an empty one, without writing to it.

    Raises:
        NewerStoreError: a newer Palate wrote it.
        StoreError: it is a SQLite file of another program.
    """
    found = int(connection.execute("PRAGMA user_version").fetchone()[0])
    owner = int(connection.execute("PRAGMA application_id").fetchone()[0])
    tables = int(connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
    if owner not in (0, APPLICATION_ID) or (owner == 0 and tables):
        raise StoreError(
            f"Cannot open {file}: it is a SQLite file of another program; expected one of Palate's. "
            "It was left as it is. Choose another folder."
        )
    if found > VERSION:
        raise NewerStoreError(
            f"Cannot open {file}: its version is {found}; expected {VERSION} or lower. "
            "A newer Palate wrote it, and it was left as it is. Update Palate."
        )
    return found


def migrate(connection: sqlite3.Connection, version: int) -> None:
    """Bring the tables from `version` to `VERSION`, inside the caller's transaction."""
    if version == 0:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    for step in MIGRATIONS[version:]:
        for statement in step:
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {VERSION}")
