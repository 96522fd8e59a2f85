"""What is trained on: pairs of pictures of one prompt, the chosen one first."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..comparisons import PreferenceStore
from ..errors import NotEnoughAnswersError

__all__ = ["LabelledPair", "pairs_of", "split_pairs"]

HELD_OUT = 0.15  # share of the pairs that is never trained on
FEWEST_HELD_OUT, MOST_HELD_OUT = 3, 60


@dataclass(frozen=True)
class LabelledPair:
    """Two picture files and what both were made from.

    Attributes:
        chosen, rejected: The files. prompt: Of both.
        ranking: Number of the ranking that implied it; None for an answer of its own.
    """

    chosen: Path
    rejected: Path
    prompt: str = ""
    ranking: int | None = None


def pairs_of(store: PreferenceStore, person: str) -> list[LabelledPair]:
    """Return what a person's answers say, oldest first; ties, skips and lost pictures are left out.

    A pair that was answered more than once counts with its last answer.

    Raises:
        NotEnoughAnswersError: no answer prefers one picture over another.
    """
    latest: dict[frozenset[str], LabelledPair] = {}
    lost = 0
    for comparison in store.comparisons(person):
        if comparison.chosen is None or comparison.rejected is None:
            if comparison.outcome == "tie":
                latest.pop(frozenset((comparison.left, comparison.right)), None)
            continue
        if not (store.has_image(comparison.chosen) and store.has_image(comparison.rejected)):
            lost += 1
            continue
        key = frozenset((comparison.chosen, comparison.rejected))
        latest.pop(key, None)
        chosen, rejected = store.image_path(comparison.chosen), store.image_path(comparison.rejected)
        latest[key] = LabelledPair(chosen, rejected, comparison.prompt, comparison.ranking)
    if not latest:
        found = f"{lost} whose pictures are gone" if lost else "none"
        raise NotEnoughAnswersError(
            f"Cannot train on the answers of {person!r}: found {found}; expected answers that prefer one of two "
            "pictures. Compare some pictures first; 20 are a start."
        )
    return list(latest.values())


def split_pairs(pairs: Sequence[LabelledPair]) -> tuple[list[LabelledPair], list[LabelledPair]]:
    """Return pairs to train on, and pairs to judge by: none of fewer than 6, else about every seventh.

    What a ranking implied stays together: three of its pairs say what the fourth will be. What an answer's pictures
    hash to decides, so the same pairs are always split alike, and new answers move few old ones.
    """
    answers: dict[object, list[int]] = {}
    for index, pair in enumerate(pairs):
        answers.setdefault(("pair", index) if pair.ranking is None else pair.ranking, []).append(index)
    if len(pairs) < 2 * FEWEST_HELD_OUT or len(answers) < 2:
        return list(pairs), []
    count = min(MOST_HELD_OUT, max(FEWEST_HELD_OUT, round(HELD_OUT * len(pairs))))
    held: set[int] = set()
    for rows in sorted(answers.values(), key=lambda rows: min(_hash(pairs[row]) for row in rows)):
        if len(held) < count and 2 * (len(held) + len(rows)) <= len(pairs):
            held.update(rows)
    kept = [pair for index, pair in enumerate(pairs) if index not in held]
    return kept, [pair for index, pair in enumerate(pairs) if index in held]


def _hash(pair: LabelledPair) -> str:
    names = sorted((pair.chosen.name, pair.rejected.name))
    return hashlib.sha256("/".join(names).encode()).hexdigest()
