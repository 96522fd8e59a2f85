"""Rankings as rows of the store, together with the comparisons they imply; all inside the caller's transaction."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..errors import ComparisonError
from .comparison import Comparison, Offer
from .ranking import Ranking, check_tiers
from .rows import find_comparison, insert_comparison, insert_row, raise_revision, write_list

__all__ = [
    "ONE_PER_ANSWER",
    "RANKING_TOLD",
    "first_of_ranking",
    "insert_ranking",
    "rank_offer",
    "remove_answer",
    "to_ranking",
]

RANKING = "person, images, tiers, outcome, prompt, seeds, model, source, seconds, created, id"
# How much better the best one is lies with the comparisons that are implied.
RANKING_TOLD = f"{RANKING}, (SELECT max(much) FROM comparisons WHERE ranking = rankings.id)"

# Of the comparisons that a ranking implies, the first stands for it.
ONE_PER_ANSWER = (
    "(ranking IS NULL OR id = (SELECT min(same.id) FROM comparisons AS same WHERE same.ranking = comparisons.ranking))"
)


def insert_ranking(connection: sqlite3.Connection, ranking: Ranking) -> tuple[Ranking, Comparison]:
    """Insert a ranking and what it implies; return it with its id and time, and the first of its comparisons.

    Raises:
        ComparisonError: its id is taken.
    """
    if ranking.id is not None and _find(connection, ranking.id) is not None:
        raise ComparisonError(
            f"Cannot record the ranking: number {ranking.id} is already recorded; expected a new one. "
            "Delete it first, or leave its id out."
        )
    ranking = replace(ranking, created=time.time() if ranking.created is None else ranking.created)
    ranking = replace(ranking, id=insert_row(connection, "rankings", RANKING, _values(ranking)))
    first = _insert_implied(connection, ranking)
    if ranking.outcome != "skip":
        raise_revision(connection, ranking.person)
    return ranking, first


def rank_offer(
    connection: sqlite3.Connection,
    offer: Offer,
    tiers: Sequence[Sequence[str]],
    outcome: str,
    seconds: float | None,
    much: bool | None = None,
) -> Ranking:
    """Record the answer to an offer of more than two images; the same answer again changes nothing.

    Another answer takes the place of the first, keeps its number and time, and is then the person's latest one.
    """
    ranking = Ranking(
        person=offer.person,
        images=offer.images,
        tiers=check_tiers(offer.images, tiers, outcome),
        outcome=outcome,
        prompt=offer.prompt,
        seeds=offer.seeds,
        model=offer.model,
        source=offer.source,
        seconds=seconds,
        much=much,
    )
    answer = None if offer.comparison is None else find_comparison(connection, offer.comparison)
    before = None if answer is None or answer.ranking is None else _find(connection, answer.ranking)
    if before is None:
        ranking, first = insert_ranking(connection, ranking)
    elif (before.tiers, before.outcome) == (ranking.tiers, ranking.outcome) and much in (None, before.much):
        return before
    else:
        ranking, first = _replace(connection, before, ranking)
    connection.execute("UPDATE offers SET comparison = ? WHERE id = ?", (first.id, offer.id))
    return ranking


def remove_answer(connection: sqlite3.Connection, comparison: Comparison) -> None:
    """Delete an answer: the comparison, or the whole ranking that implied it."""
    if comparison.ranking is None:
        connection.execute("DELETE FROM comparisons WHERE id = ?", (comparison.id,))
    else:
        connection.execute("DELETE FROM comparisons WHERE ranking = ?", (comparison.ranking,))
        connection.execute("DELETE FROM rankings WHERE id = ?", (comparison.ranking,))
    if comparison.outcome != "skip":
        raise_revision(connection, comparison.person)


def first_of_ranking(connection: sqlite3.Connection, comparison: Comparison) -> int | None:
    """Return the number of the comparison that stands for the ranking of this one; None where there is no ranking."""
    query = "SELECT min(id) FROM comparisons WHERE ranking = ?"
    found: int | None = connection.execute(query, (comparison.ranking,)).fetchone()[0]
    return found


def to_ranking(row: Sequence[Any]) -> Ranking:
    """Return a row of the columns `RANKING_TOLD` as a ranking."""
    person, images, places, outcome, prompt, seeds, model, source, seconds, created, number, much = row
    shown = tuple(json.loads(images))
    return Ranking(
        person=person,
        images=shown,
        tiers=tuple(tuple(shown[place] for place in tier) for tier in json.loads(places)),
        outcome=outcome,
        prompt=prompt,
        seeds=tuple(json.loads(seeds)),
        model=model,
        source=source,
        seconds=seconds,
        id=number,
        created=created,
        much=None if much is None else bool(much),
    )


def _find(connection: sqlite3.Connection, number: int) -> Ranking | None:
    row = connection.execute(f"SELECT {RANKING_TOLD} FROM rankings WHERE id = ?", (number,)).fetchone()
    return None if row is None else to_ranking(row)


def _replace(connection: sqlite3.Connection, before: Ranking, after: Ranking) -> tuple[Ranking, Comparison]:
    seconds = before.seconds if after.seconds is None else after.seconds
    after = replace(after, id=before.id, created=before.created, seconds=seconds)
    connection.execute(
        "UPDATE offers SET comparison = NULL WHERE comparison IN (SELECT id FROM comparisons WHERE ranking = ?)",
        (before.id,),
    )
    connection.execute("DELETE FROM comparisons WHERE ranking = ?", (before.id,))
    connection.execute(
        "UPDATE rankings SET tiers = ?, outcome = ?, seconds = ? WHERE id = ?",
        (write_list(_places(after)), after.outcome, seconds, after.id),
    )
    raise_revision(connection, after.person)
    return after, _insert_implied(connection, after)


def _insert_implied(connection: sqlite3.Connection, ranking: Ranking) -> Comparison:
    first, *others = ranking.implied()
    first = insert_comparison(connection, first)
    for comparison in others:
        insert_comparison(connection, comparison)
    return first


def _values(ranking: Ranking) -> tuple[object, ...]:
    """Values in the order of `RANKING`."""
    return (
        ranking.person,
        write_list(ranking.images),
        write_list(_places(ranking)),
        ranking.outcome,
        ranking.prompt,
        write_list(ranking.seeds),
        ranking.model,
        ranking.source,
        ranking.seconds,
        ranking.created,
        ranking.id,
    )


def _places(ranking: Ranking) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(ranking.images.index(image) for image in tier) for tier in ranking.tiers)
