"""Answers that are changed, taken back, deleted or given to an offer; all inside the caller's transaction."""

from __future__ import annotations

import sqlite3
from dataclasses import replace

from ..errors import ComparisonError
from .comparison import Comparison, Offer
from .rankings import ONE_PER_ANSWER, first_of_ranking, remove_answer
from .rows import (
    COMPARISON,
    answered,
    change_outcome,
    find_comparison,
    find_offer,
    insert_comparison,
    offer_to_answer,
    to_comparison,
)

__all__ = ["answer_offer", "change_answer", "delete_answer", "undo_answer"]


def change_answer(connection: sqlite3.Connection, comparison_id: int, outcome: str) -> Comparison:
    """Give an answer another outcome, and return it.

    Raises:
        ComparisonError: there is no such answer, or it belongs to a ranking.
    """
    before = find_comparison(connection, comparison_id)
    if before is not None and before.ranking is not None:
        raise ComparisonError(
            "Cannot change the answer: it is one of several that a ranking implies; expected an answer about "
            "two images. Rank the images again, or delete the ranking."
        )
    if before is None:
        raise ComparisonError(
            f"Cannot change the answer: there is no number {comparison_id}; expected one that was not deleted "
            "since. Look at the list again."
        )
    return change_outcome(connection, before, outcome)


def undo_answer(connection: sqlite3.Connection, person: str) -> tuple[Comparison, Offer | None] | None:
    """Take back a person's latest answer, of a ranking all of it, and return it with its offer, which is open again."""
    query = f"SELECT {COMPARISON} FROM comparisons WHERE person = ? AND {ONE_PER_ANSWER} ORDER BY id DESC LIMIT 1"
    row = connection.execute(query, (person,)).fetchone()
    if row is None:
        return None
    comparison = to_comparison(row)
    offer = find_offer(connection, comparison=comparison.id)
    connection.execute("UPDATE offers SET comparison = NULL WHERE comparison = ?", (comparison.id,))
    remove_answer(connection, comparison)
    return comparison, None if offer is None else replace(offer, comparison=None)


def delete_answer(connection: sqlite3.Connection, comparison_id: int) -> Comparison | None:
    """Delete an answer, of a ranking all of it, with the offer it came from, and return it."""
    comparison = find_comparison(connection, comparison_id)
    if comparison is None:
        return None
    for answer in (comparison_id, first_of_ranking(connection, comparison)):
        connection.execute("DELETE FROM offers WHERE comparison = ?", (answer,))
    remove_answer(connection, comparison)
    return comparison


def answer_offer(
    connection: sqlite3.Connection, offer_id: str, outcome: str, seconds: float | None, much: bool | None = None
) -> Comparison:
    """Record the answer to an offer of two images; another one than before replaces it.

    Raises:
        ComparisonError: there is no such offer, or it is of more than two images.
    """
    offer = offer_to_answer(connection, offer_id, many=False)
    before = None if offer.comparison is None else find_comparison(connection, offer.comparison)
    if before is not None:
        return change_outcome(connection, before, outcome, seconds, much)
    comparison = insert_comparison(connection, answered(offer, outcome, seconds, much))
    connection.execute("UPDATE offers SET comparison = ? WHERE id = ?", (comparison.id, offer.id))
    return comparison
