"""What is shown beside the pair: how well the taste is known, how varied the pictures are, which answers may be slips.

All of it is worked out in the background, from the answers of a moment ago; nobody waits for it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import torch

from ...adapters.comparisons import Comparison
from ...adapters.errors import ComparisonError
from ...adapters.taste.ceiling import SECOND_LOOK
from .fresh import Fresh
from .progress import FIRST_LOOK
from .variety import in_words, variety

if TYPE_CHECKING:
    from ...adapters.taste import LearningReport, Suspect
    from .studio import Studio

__all__ = ["Live"]

SHOWN = 30  # answers whose pictures are what was shown lately
EVER = 300  # answers whose pictures are what was shown at all
FEW = 4  # answers that a PPD makes a person's pictures from
FIRST_SLIPS = 30  # answers before any of them is called a slip
MOST_SLIPS = 10


class Live:
    """The live view of one person after another.

    Args:
        studio: Store, encoder and reports.
    """

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        revision = studio.store.revision
        self._variety: Fresh[float] = Fresh(revision, self._measure)
        self._slips: Fresh[tuple[Suspect, ...]] = Fresh(
            revision, lambda person: studio.tools.second_look(studio.store, studio.encoder(), person, MOST_SLIPS)
        )
        self._lock = threading.Lock()

    def view(self, person: str, answers: int, report: LearningReport | None) -> dict[str, Any]:
        """Return what is known at this moment, without waiting for more.

        Args:
            answers: How many the person gave.
            report: As of now or a few answers ago; None when there is none yet.
        """
        share = self._variety.latest(person) if answers >= FIRST_LOOK else None
        return {
            "curve": [] if report is None else [list(point) for point in report.curve],
            "ceiling": None if report is None else report.ceiling,
            "left": None if report is None else report.left_share,
            "leans": "" if report is None else report.leans,
            "own": None if report is None or report.stranger_accuracy is None else report.accuracy,
            "others": None if report is None else report.stranger_accuracy,
            "try": answers >= FEW,
            "advice": report.advice if report is not None and answers >= FIRST_LOOK else "",
            "enough": report is not None and report.enough,
            "variety": "" if share is None else in_words(share),
            "slips": len(self.slips(person)) if answers >= FIRST_SLIPS else 0,
        }

    def slips(self, person: str) -> list[Comparison]:
        """Return answers that may be slips, likeliest first, as they are now; none while that is being worked out."""
        suspects = self._slips.latest(person)
        if not suspects:
            return []
        seen = self._looked_at(person)
        found = [(one, self._own(person, one.comparison.id)) for one in suspects]
        return [
            now
            for one, now in found
            if now is not None
            and now.outcome == one.comparison.outcome
            and frozenset((now.left, now.right)) not in seen
            and all(map(self._studio.store.has_image, (now.left, now.right)))
        ]

    def look_again(self, person: str, number: int, before: str, outcome: str) -> None:
        """Keep an answer, or change it.

        What is kept is one more answer to the same pair: it was meant. What is changed was a slip, and is replaced.

        Raises:
            ComparisonError: the person has no such answer, or no longer this one; or there is no such outcome.
        """
        with self._lock:
            found = self._own(person, number)
            if found is None or found.outcome not in (before, outcome):
                raise ComparisonError(
                    f"Cannot look at answer {number} again: it was changed or deleted since; expected {before!r}. Go "
                    "on with the next one."
                )
            store = self._studio.store
            if outcome != before:
                store.change(number, outcome)
            elif frozenset((found.left, found.right)) not in self._looked_at(person):
                store.add(
                    Comparison(
                        person,
                        found.left,
                        found.right,
                        outcome,
                        found.prompt,
                        found.left_seed,
                        found.right_seed,
                        found.model,
                        SECOND_LOOK,
                    )
                )

    def _own(self, person: str, number: int | None) -> Comparison | None:
        found = next(iter(self._studio.store.newest(person, 1, (number or 0) + 1)), None)
        return found if found is not None and found.id == number else None

    def _looked_at(self, person: str) -> set[frozenset[str]]:
        """Pairs that the person looked at again."""
        newer = self._studio.store.newest(person, EVER)
        return {frozenset((one.left, one.right)) for one in newer if one.source == SECOND_LOOK}

    def _measure(self, person: str) -> float:
        """How varied the pictures of the latest answers are, compared with all."""
        answers = self._studio.store.newest(person, EVER)
        images = [[side for one in some for side in (one.left, one.right)] for some in (answers[:SHOWN], answers)]
        known = self._studio.store.vectors(self._studio.encoder().identity, list(dict.fromkeys(images[1])))
        vectors = [[torch.from_numpy(known[one]) for one in dict.fromkeys(some) if one in known] for some in images]
        return variety(*vectors)
