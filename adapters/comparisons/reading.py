"""What was answered and offered, read out of the store."""

from __future__ import annotations

import sqlite3

from .comparison import Comparison, Offer
from .ranking import Ranking
from .rankings import ONE_PER_ANSWER, RANKING_TOLD, to_ranking
from .rows import COMPARISON, OFFER, to_comparison, to_offer

__all__ = ["newest_comparisons", "read_comparisons", "read_offers", "read_rankings", "read_revision"]


def read_comparisons(connection: sqlite3.Connection, person: str | None, since: float | None) -> list[Comparison]:
    """Return comparisons, oldest first; None for everybody's and for all times."""
    query, values = f"SELECT {COMPARISON} FROM comparisons", list[object]()
    # Only what is asked for: SQLite plans before it knows the values, and would read everybody's rows.
    for condition, value in (("person = ?", person), ("created > ?", since)):
        if value is not None:
            query += (" AND " if values else " WHERE ") + condition
            values.append(value)
    return [to_comparison(row) for row in connection.execute(f"{query} ORDER BY id", values).fetchall()]


def newest_comparisons(connection: sqlite3.Connection, person: str, count: int, before: int | None) -> list[Comparison]:
    """Return up to `count` answers with an id below `before`, newest first; of a ranking its first comparison."""
    query = (
        f"SELECT {COMPARISON} FROM comparisons WHERE person = :person AND id < :before AND {ONE_PER_ANSWER} "
        "ORDER BY id DESC LIMIT :count"
    )
    wanted = {"person": person, "before": 2**63 - 1 if before is None else before, "count": count}
    return [to_comparison(row) for row in connection.execute(query, wanted).fetchall()]


def read_rankings(connection: sqlite3.Connection, person: str | None) -> list[Ranking]:
    """Return rankings, oldest first; None for everybody's."""
    query, values = ("", ()) if person is None else (" WHERE person = ?", (person,))
    rows = connection.execute(f"SELECT {RANKING_TOLD} FROM rankings{query} ORDER BY id", values).fetchall()
    return [to_ranking(row) for row in rows]


def read_revision(connection: sqlite3.Connection, person: str) -> int:
    """Return a person's revision; 0 for nobody."""
    row = connection.execute("SELECT revision FROM revisions WHERE person = ?", (person,)).fetchone()
    return int(row[0]) if row else 0


def read_offers(connection: sqlite3.Connection, person: str | None, source: str | None) -> list[Offer]:
    """Return undecided offers, oldest first; None for everybody's and for all sources, a source with its parts."""
    whose = "" if person is None else "person = :person AND"
    query = (
        f"SELECT {OFFER} FROM offers WHERE {whose} comparison IS NULL AND "
        "(:source IS NULL OR source = :source OR substr(source, 1, length(:source) + 1) = :source || ':') "
        "ORDER BY created, rowid"
    )
    return [to_offer(row) for row in connection.execute(query, {"person": person, "source": source}).fetchall()]
