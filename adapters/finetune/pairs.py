"""What is trained on: pairs of pictures of one prompt, the chosen one first."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..comparisons import PreferenceStore
from ..errors import NotEnoughAnswersError

__all__ = ["LabelledPair", "lost_answers", "pairs_of", "split_pairs", "turned_over"]

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
    lost = without = 0
    for comparison in store.comparisons(person):
        if comparison.chosen is None or comparison.rejected is None:
            without += 1
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
        kinds = {"whose pictures are gone": lost, "without a preference, such as ties": without}
        found = " and ".join(f"{count} {what}" for what, count in kinds.items() if count) or "none"
        raise NotEnoughAnswersError(
            f"Cannot train on the answers of {person!r}: found {found}; expected answers that prefer one of two "
            "pictures. Compare some pictures first; 20 are a start."
        )
    return list(latest.values())


def lost_answers(store: PreferenceStore, person: str) -> int:
    """How many of a person's answers prefer one of two pictures of which one is gone."""
    sides = ((one.chosen, one.rejected) for one in store.comparisons(person))
    return sum(not (store.has_image(a) and store.has_image(b)) for a, b in sides if a is not None and b is not None)


def turned_over(store: PreferenceStore, person: str) -> int:
    """How many pairs a person answered one way and later the other way."""
    last: dict[frozenset[str], str] = {}
    turned = set()
    for comparison in store.comparisons(person):
        if comparison.chosen is not None and comparison.rejected is not None:
            pair = frozenset((comparison.chosen, comparison.rejected))
            if last.setdefault(pair, comparison.chosen) != comparison.chosen:
                turned.add(pair)
            last[pair] = comparison.chosen
    return len(turned)


def split_pairs(pairs: Sequence[LabelledPair]) -> tuple[list[LabelledPair], list[LabelledPair]]:
    """Return pairs to train on, and pairs to judge by: none of fewer than 6, else about every seventh.

    What a ranking implied stays together: three of its pairs say what the fourth will be. So do pairs that have a
    picture in common, since whoever was taught that it is liked is right about it wherever it comes again; only where
    hardly any could then be held out, as with a few pictures that are asked about again and again, they don't. What an
    answer's pictures hash to decides, so the same pairs are always split alike, and new answers move few old ones.
    """
    count = min(MOST_HELD_OUT, max(FEWEST_HELD_OUT, round(HELD_OUT * len(pairs))))
    held = _held_out(pairs, _with_common_pictures(pairs), count, min(2 * count, len(pairs) // 2))
    if 2 * len(held) < count:
        held = _held_out(pairs, _answers(pairs), count, len(pairs) // 2)
    kept = [pair for index, pair in enumerate(pairs) if index not in held]
    return kept, [pair for index, pair in enumerate(pairs) if index in held]


def _held_out(pairs: Sequence[LabelledPair], groups: Sequence[Sequence[int]], count: int, most: int) -> set[int]:
    """Indices of `count` pairs or so, `most` at most, when each group is held out as a whole or not at all."""
    held: set[int] = set()
    if len(pairs) < 2 * FEWEST_HELD_OUT or len(groups) < 2:
        return held
    for rows in sorted(groups, key=lambda rows: min(_hash(pairs[row]) for row in rows)):
        if len(held) < count and len(held) + len(rows) <= most:
            held.update(rows)
    return held


def _answers(pairs: Sequence[LabelledPair]) -> list[list[int]]:
    """Indices of the pairs of each answer: one, or what a ranking implied."""
    found: dict[object, list[int]] = {}
    for index, pair in enumerate(pairs):
        found.setdefault(("pair", index) if pair.ranking is None else pair.ranking, []).append(index)
    return list(found.values())


def _with_common_pictures(pairs: Sequence[LabelledPair]) -> list[list[int]]:
    """Answers, joined as long as two have a picture in common."""
    of: dict[Path, Path] = {}  # another picture of the same group; its own for the one that stands for all

    def first(picture: Path) -> Path:
        of.setdefault(picture, picture)
        while of[picture] != picture:
            of[picture] = of[of[picture]]
            picture = of[picture]
        return picture

    answers = _answers(pairs)
    for rows in answers:
        for row in rows:
            for picture in (pairs[row].chosen, pairs[row].rejected):
                of[first(picture)] = first(pairs[rows[0]].chosen)
    found: dict[Path, list[int]] = {}
    for rows in answers:
        found.setdefault(first(pairs[rows[0]].chosen), []).extend(rows)
    return list(found.values())


def _hash(pair: LabelledPair) -> str:
    names = sorted((pair.chosen.name, pair.rejected.name))
    return hashlib.sha256("/".join(names).encode()).hexdigest()
