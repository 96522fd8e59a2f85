"""Comparisons and offers as rows of the store, and back; all inside the caller's transaction."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..errors import ComparisonError
from .comparison import Comparison, Offer

__all__ = [
    "COMPARISON",
    "OFFER",
    "answered",
    "change_outcome",
    "delete_open_offer",
    "find_comparison",
    "find_offer",
    "insert_comparison",
    "insert_offer",
    "insert_row",
    "offer_to_answer",
    "raise_revision",
    "to_comparison",
    "to_offer",
    "write_list",
]

_PAIR = "person, left_image, right_image, prompt, left_seed, right_seed, model, source, created"
COMPARISON = f"{_PAIR}, outcome, seconds, id, ranking, much"
OFFER = f"{_PAIR}, comparison, id, others, other_seeds"


def insert_comparison(connection: sqlite3.Connection, comparison: Comparison) -> Comparison:
    """Insert an answer and return it with its id and time.

    Raises:
        ComparisonError: its id is taken.
    """
    if comparison.id is not None and find_comparison(connection, comparison.id) is not None:
        raise ComparisonError(
            f"Cannot record the comparison: number {comparison.id} is already recorded; expected a new one. "
            "Delete it first, or leave its id out."
        )
    comparison = replace(comparison, created=time.time() if comparison.created is None else comparison.created)
    told = (comparison.outcome, comparison.seconds, comparison.id, comparison.ranking, comparison.much)
    values = (*_pair_values(comparison), *told)
    comparison = replace(comparison, id=insert_row(connection, "comparisons", COMPARISON, values))
    if comparison.outcome != "skip" and comparison.ranking is None:  # a ranking raises it once for all
        raise_revision(connection, comparison.person)
    return comparison


def change_outcome(
    connection: sqlite3.Connection,
    before: Comparison,
    outcome: str,
    seconds: float | None = None,
    much: bool | None = None,
) -> Comparison:
    """Give an answer another outcome and return it; the same outcome changes nothing."""
    if before.outcome == outcome and (much is None or before.much == much):
        return before
    after = replace(before, outcome=outcome, seconds=before.seconds if seconds is None else seconds, much=much)
    connection.execute(
        "UPDATE comparisons SET outcome = ?, seconds = ?, much = ? WHERE id = ?",
        (after.outcome, after.seconds, after.much, after.id),
    )
    raise_revision(connection, before.person)
    return after


def find_comparison(connection: sqlite3.Connection, comparison_id: int) -> Comparison | None:
    """Return the answer of this id, None when there is none."""
    row = connection.execute(f"SELECT {COMPARISON} FROM comparisons WHERE id = ?", (comparison_id,)).fetchone()
    return None if row is None else to_comparison(row)


def raise_revision(connection: sqlite3.Connection, person: str) -> None:
    """Count one change of what can be learned of this person."""
    connection.execute("INSERT OR IGNORE INTO revisions (person, revision) VALUES (?, 0)", (person,))
    connection.execute("UPDATE revisions SET revision = revision + 1 WHERE person = ?", (person,))


def insert_offer(connection: sqlite3.Connection, offer: Offer) -> None:
    """Insert an open offer."""
    values = (None, offer.id, write_list(offer.others), write_list(offer.other_seeds))
    insert_row(connection, "offers", OFFER, (*_pair_values(offer), *values))


def find_offer(
    connection: sqlite3.Connection, offer_id: str | None = None, comparison: int | None = None
) -> Offer | None:
    """Return the offer of this id, or the one that became this comparison; None when there is none."""
    column, wanted = ("comparison", comparison) if offer_id is None else ("id", offer_id)
    row = connection.execute(f"SELECT {OFFER} FROM offers WHERE {column} = ?", (wanted,)).fetchone()
    return None if row is None else to_offer(row)


def delete_open_offer(connection: sqlite3.Connection, offer_id: str) -> bool:
    """Delete an undecided offer; return whether there was one."""
    return connection.execute("DELETE FROM offers WHERE id = ? AND comparison IS NULL", (offer_id,)).rowcount > 0


def write_list(values: Sequence[object]) -> str:
    """Return the text of a list as rows hold it; of a tuple of any depth, too. JSON's whole numbers have no limit."""
    return json.dumps(values, separators=(",", ":"))


def offer_to_answer(connection: sqlite3.Connection, offer_id: str, many: bool) -> Offer:
    """Return an offer for an answer: of a pair, or of many images.

    Raises:
        ComparisonError: there is none of this id, or it is of the other kind.
    """
    offer = find_offer(connection, offer_id)
    if offer is None:
        raise ComparisonError(
            f"Cannot record the answer: there is no offer {ascii(offer_id)[:60]}; expected a pair that was "
            "shown and not deleted since. Ask for the next pair."
        )
    if bool(offer.others) != many:
        rule = "three or more. Choose one of the two." if many else "two. Pick the best of them, or put them in order."
        raise ComparisonError(f"Cannot record the answer: {len(offer.images)} images were shown; expected {rule}")
    return offer


def insert_row(connection: sqlite3.Connection, table: str, columns: str, values: Sequence[object]) -> int:
    """Insert one row and return its number."""
    marks = ", ".join("?" * len(values))
    row_id = connection.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", values).lastrowid
    assert row_id is not None
    return row_id


def _pair_values(pair: Comparison | Offer) -> tuple[object, ...]:
    """Values in the order of `_PAIR`."""
    seeds = [None if seed is None else str(seed) for seed in (pair.left_seed, pair.right_seed)]
    return (pair.person, pair.left, pair.right, pair.prompt, *seeds, pair.model, pair.source, pair.created)


def _pair_fields(row: Sequence[Any]) -> dict[str, Any]:
    """Fields by name from a row that begins with `_PAIR`."""
    names = ("person", "left", "right", "prompt", "left_seed", "right_seed", "model", "source", "created")
    fields = dict(zip(names, row, strict=False))
    for name in ("left_seed", "right_seed"):
        fields[name] = None if fields[name] is None else int(fields[name])
    return fields


def to_comparison(row: Sequence[Any]) -> Comparison:
    """Return a row of the columns `COMPARISON` as a comparison.

    It was checked when it was recorded: checking 100,000 of them again would take seconds.
    """
    person, left, right, prompt, left_seed, right_seed, model, source, created, *told = row
    outcome, seconds, number, rank, much = told
    comparison = object.__new__(Comparison)
    comparison.__dict__.update(
        person=person,
        left=left,
        right=right,
        outcome=outcome,
        prompt=prompt,
        left_seed=None if left_seed is None else int(left_seed),
        right_seed=None if right_seed is None else int(right_seed),
        model=model,
        source=source,
        seconds=seconds,
        id=number,
        created=created,
        ranking=rank,
        much=None if much is None else bool(much),
    )
    return comparison


def to_offer(row: Sequence[Any]) -> Offer:
    """Return a row of the columns `OFFER` as an offer."""
    others, seeds = json.loads(row[-2]), json.loads(row[-1])
    return Offer(**_pair_fields(row), comparison=row[-4], id=row[-3], others=tuple(others), other_seeds=tuple(seeds))


def answered(offer: Offer, outcome: str, seconds: float | None, much: bool | None = None) -> Comparison:
    """Return the comparison that an offer becomes."""
    return Comparison(
        person=offer.person,
        left=offer.left,
        right=offer.right,
        outcome=outcome,
        prompt=offer.prompt,
        left_seed=offer.left_seed,
        right_seed=offer.right_seed,
        model=offer.model,
        source=offer.source,
        seconds=seconds,
        much=much,
    )
