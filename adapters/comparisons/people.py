"""Who has answered in a store, how much and when; renaming and forgetting a person."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from ..errors import ComparisonError

__all__ = ["PersonAnswers", "count_answers", "forget_person", "people", "people_answers", "rename_person"]

# Of a ranking, all comparisons have one outcome where it is "skip".
_ALL = "count(*) - count(ranking) + count(DISTINCT ranking)"
_TEACHING = (
    "count(CASE WHEN outcome != 'skip' AND ranking IS NULL THEN 1 END) "
    "+ count(DISTINCT CASE WHEN outcome != 'skip' THEN ranking END)"
)
_NAMES = (
    "WITH RECURSIVE names (person) AS (SELECT min(person) FROM comparisons UNION ALL "
    "SELECT (SELECT min(person) FROM comparisons WHERE person > names.person) FROM names "
    "WHERE names.person IS NOT NULL)"
)


@dataclass(frozen=True)
class PersonAnswers:
    """One person of a store.

    Attributes:
        answers: How many answers say something about their taste: all but skipped ones. A ranking is one.
        last: When the latest comparison was made, skipped or not, in seconds since 1970 UTC.
        first: Id of the oldest comparison; another one where somebody was forgotten and began anew.
    """

    person: str
    answers: int
    last: float
    first: int


def people(connection: sqlite3.Connection) -> list[str]:
    """Return the names of all who answered, sorted; one look into the index for each, however much they answered."""
    return [row[0] for row in connection.execute(f"{_NAMES} SELECT person FROM names WHERE person IS NOT NULL")]


def people_answers(
    connection: sqlite3.Connection, counted: dict[str, tuple[object, PersonAnswers]]
) -> list[PersonAnswers]:
    """Return everybody who answered, who was here last first.

    Args:
        connection: To the store.
        counted: What an earlier call found, by person; who answered since then is counted again, and nobody else.
    """
    marks = (
        f"{_NAMES} SELECT names.person, revision, (SELECT min(id) FROM comparisons WHERE person = names.person), "
        "(SELECT max(id) FROM comparisons WHERE person = names.person) "
        "FROM names LEFT JOIN revisions ON revisions.person = names.person WHERE names.person IS NOT NULL"
    )
    count = f"SELECT {_TEACHING}, max(created), min(id) FROM comparisons WHERE person = ?"
    found = []
    for person, *mark in connection.execute(marks).fetchall():  # skipped pairs don't raise the revision, but the id
        if person not in counted or counted[person][0] != mark:
            counted[person] = (mark, PersonAnswers(person, *connection.execute(count, (person,)).fetchone()))
        found.append(counted[person][1])
    return sorted(found, key=lambda one: (-one.last, one.person))


def count_answers(connection: sqlite3.Connection, person: str, skipped: bool = False) -> int:
    """Return how many answers a person gave, a ranking being one; the skipped ones too if asked for."""
    query = f"SELECT {_ALL if skipped else _TEACHING} FROM comparisons WHERE person = ?"
    return int(connection.execute(query, (person,)).fetchone()[0])


def rename_person(connection: sqlite3.Connection, person: str, name: str) -> int:
    """Give a person's answers and undecided pairs another name, inside the caller's transaction; return how many.

    Raises:
        ComparisonError: somebody has that name.
    """
    if name == person:
        return count_answers(connection, name, skipped=True)
    if connection.execute("SELECT 1 FROM comparisons WHERE person = ? LIMIT 1", (name,)).fetchone():
        raise ComparisonError(
            f"Cannot rename {person[:60]!r}: {name[:60]!r} has answers of their own; expected a name that nobody has. "
            "Choose another one."
        )
    # Pairs that wait for the new name stay: another tab may be answering them at this moment.
    # The revision goes along, and never back: what was learned under the new name before is out of date.
    connection.execute(
        "INSERT INTO revisions (person, revision) SELECT ?, coalesce(max(revision), 0) + 1 FROM revisions "
        "WHERE person IN (?, ?) ON CONFLICT (person) DO UPDATE SET revision = excluded.revision",
        (name, person, name),
    )
    connection.execute("UPDATE revisions SET revision = revision + 1 WHERE person = ?", (person,))
    connection.execute("UPDATE offers SET person = ? WHERE person = ?", (name, person))
    connection.execute("UPDATE rankings SET person = ? WHERE person = ?", (name, person))
    connection.execute("UPDATE comparisons SET person = ? WHERE person = ?", (name, person))
    return count_answers(connection, name, skipped=True)


def forget_person(connection: sqlite3.Connection, person: str) -> int:
    """Delete a person's answers and undecided pairs, inside the caller's transaction; return how many answers."""
    connection.execute("DELETE FROM offers WHERE person = ?", (person,))
    count = count_answers(connection, person, skipped=True)
    connection.execute("DELETE FROM comparisons WHERE person = ?", (person,))
    connection.execute("DELETE FROM rankings WHERE person = ?", (person,))
    if count:
        connection.execute("UPDATE revisions SET revision = revision + 1 WHERE person = ?", (person,))
    return count
