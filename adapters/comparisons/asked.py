"""What was asked and what was said to it, read a page at a time: for a screen that thousands of questions stand behind.

A question is an `Offer`. Those that the panel made for itself are left out: it shows them, and nobody else.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from .comparison import Comparison, Offer
from .database import Database
from .ranking import Ranking
from .rankings import RANKING_TOLD, to_ranking
from .rows import OFFER, find_comparison, find_offer, to_offer, write_list

__all__ = ["Asked"]

Answer = Comparison | Ranking
_PANEL = "panel"
_SHOWN = f"substr(source, 1, {len(_PANEL)}) != '{_PANEL}'"
_OPEN = f"person = :person AND comparison IS NULL AND {_SHOWN}"


class Asked:
    """The questions of a store; `PreferenceStore.asked` is one. Every method may raise `StoreError`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def count(self, person: str) -> int:
        """How many questions this person has not decided."""
        with self._database.read() as connection:
            return int(
                connection.execute(f"SELECT count(*) FROM offers WHERE {_OPEN}", {"person": person}).fetchone()[0]
            )

    def waiting(self) -> dict[str, int]:
        """How many questions each person has not decided; those who decided all are left out."""
        query = (
            f"SELECT person, count(*) FROM offers WHERE comparison IS NULL AND {_SHOWN} GROUP BY person ORDER BY person"
        )
        with self._database.read() as connection:
            return dict(connection.execute(query).fetchall())

    def newest(self, person: str, count: int, before: str | None = None) -> list[Offer]:
        """Up to `count` undecided questions, newest first; with `before`, those older than the question of that id."""
        query = (
            f"SELECT {OFFER} FROM offers WHERE {_OPEN} AND (:before IS NULL OR (created, rowid) < "
            "(SELECT created, rowid FROM offers WHERE id = :before)) ORDER BY created DESC, rowid DESC LIMIT :count"
        )
        with self._database.read() as connection:
            rows = connection.execute(query, {"person": person, "before": before, "count": count}).fetchall()
        return [to_offer(row) for row in rows]

    def latest(self, person: str) -> str | None:
        """The id of the newest question of all, decided or not; None where nothing was asked."""
        query = f"SELECT id FROM offers WHERE person = ? AND {_SHOWN} ORDER BY created DESC, rowid DESC LIMIT 1"
        with self._database.read() as connection:
            row = connection.execute(query, (person,)).fetchone()
        return None if row is None else str(row[0])

    def answers(self, offer_ids: Iterable[str]) -> list[tuple[Offer, Answer | None]]:
        """These questions with what was said, None while undecided; those that are gone are left out."""
        with self._database.read() as connection:
            offers = [offer for one in offer_ids if (offer := find_offer(connection, one)) is not None]
            return [(offer, _answer(connection, offer)) for offer in offers]

    def same(self, person: str, images: Sequence[str], prompt: str, source: str) -> Offer | None:
        """The latest question of these images in this order with this prompt, decided or not.

        Args:
            person: Who was asked.
            images: Two or more ids, as shown.
            prompt: What they were made from.
            source: Of the offer; its parts count, too: "comfyui" also finds "comfyui:wait".
        """
        query = (
            f"SELECT {OFFER} FROM offers WHERE person = ? AND left_image = ? AND right_image = ? AND others = ? "
            "AND prompt = ? AND (source = ? OR substr(source, 1, ?) = ?) ORDER BY created DESC, rowid DESC LIMIT 1"
        )
        left, right, *others = images
        wanted = (person, left, right, write_list(others), prompt, source, len(source) + 1, f"{source}:")
        with self._database.read() as connection:
            row = connection.execute(query, wanted).fetchone()
        return None if row is None else to_offer(row)


def _answer(connection: sqlite3.Connection, offer: Offer) -> Answer | None:
    found = None if offer.comparison is None else find_comparison(connection, offer.comparison)
    if found is None or found.ranking is None:
        return found
    row = connection.execute(f"SELECT {RANKING_TOLD} FROM rankings WHERE id = ?", (found.ranking,)).fetchone()
    return to_ranking(row)
