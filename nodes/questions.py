"""From a batch of images to questions, and from the answers to the images that go on. No ComfyUI here.

An image is meant by its place: in a group among all that were given, in a choice among those of its group. Places
count from 0; people count from 1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..adapters.comparisons import OUTCOMES
from ..adapters.errors import ComparisonError

__all__ = ["MOST", "SHOWS", "Choice", "forced", "going_on", "groups"]

PAIRS, BEST, ORDER = SHOWS = ("pairs", "pick the best", "put in order")
MOST = 16  # images of one question; more can't be compared at one look
_PLACES = re.compile(r"\d{1,2}(\s*,\s*\d{1,2})*")

Group = tuple[int, ...]  # the places that one question is about, as shown


@dataclass(frozen=True)
class Choice:
    """What somebody said to one question.

    Attributes:
        outcome: One of `OUTCOMES` for two images; "ranked", "both_bad" (none is good) or "skip" for more.
        tiers: The places within the group by preference, best first, for "ranked"; empty otherwise.
    """

    outcome: str
    tiers: tuple[Group, ...] = ()

    @classmethod
    def tie(cls, size: int) -> Choice:
        """All equally good."""
        return cls("tie") if size == 2 else cls("ranked", (tuple(range(size)),))


def groups(count: int, show: str) -> list[Group]:
    """Split `count` images into questions.

    Raises:
        ComparisonError: too few or too many images.
    """
    if count < 2:
        raise ComparisonError(
            f"Cannot make a pair: found {count} image; expected 2 or more. Set batch_size to 2 in the latent node, or "
            "connect images_b."
        )
    if show == PAIRS:
        return [(place, place + 1) for place in range(0, count - 1, 2)]
    if count > MOST:
        raise ComparisonError(
            f"Cannot ask for '{show}': found {count} images; expected at most {MOST}. Use a smaller batch, show them "
            "as pairs, or let Choose Pair pick the ones worth asking about."
        )
    return [tuple(range(count))]


def forced(text: str, size: int) -> Choice | None:
    """Read a choice that was made beforehand for a question about `size` images; None when there is none.

    Raises:
        ComparisonError: it is none that this question can have.
    """
    text = text.strip().lower()
    if not text:
        return None
    if _PLACES.fullmatch(text):
        places = [int(place) - 1 for place in text.split(",")]
        if len(set(places)) == len(places) and all(0 <= place < size for place in places):
            return _by_places(places, size)
    elif text == "tie":
        return Choice.tie(size)
    elif text in OUTCOMES and (size == 2 or text in ("both_bad", "skip")):
        return Choice(text)
    words = ("left, right, 1, 2" if size == 2 else f"places from 1 to {size}") + ", tie, both_bad or skip"
    raise ComparisonError(
        f"Cannot take {ascii(text)[:60]} as forced_choice for {size} images: expected {words}. Correct it, or leave it "
        "empty to be asked."
    )


def going_on(group: Group, choice: Choice | None) -> list[int]:
    """The places of a group that are sent on after a choice; None, a tie or a skip sends all.

    The chosen one of two; of more than two all of them, best first; nothing when none is good.
    """
    if choice is None or choice.outcome in ("tie", "skip"):
        return list(group)
    if choice.outcome == "both_bad":
        return []
    if choice.outcome == "ranked":
        return [group[place] for tier in choice.tiers for place in tier]
    return [group[0] if choice.outcome == "left" else group[1]]


def _by_places(places: Sequence[int], size: int) -> Choice:
    if size == 2:
        return Choice("left" if places[0] == 0 else "right")
    rest = tuple(place for place in range(size) if place not in places)
    return Choice("ranked", (*((place,) for place in places), *((rest,) if rest else ())))
