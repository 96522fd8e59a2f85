"""What is shown beside the pair: how well the taste is known, how varied the pictures are, which answers may be slips.

All of it is worked out in the background, from the answers of a moment ago; nobody waits for it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import torch

from ...adapters.taste.second_look import FIRST_SLIPS, MOST_SLIPS, look_again, unsettled
from .fresh import Fresh
from .progress import FIRST_LOOK
from .variety import in_words, variety

if TYPE_CHECKING:
    from ...adapters.comparisons import Comparison
    from ...adapters.taste import LearningReport, Suspect
    from .studio import Studio

__all__ = ["Live"]

SHOWN = 30  # answers whose pictures are what was shown lately
EVER = 300  # answers whose pictures are what was shown at all
FEW = 4  # answers that a PPD makes a person's pictures from


class Live:
    """The live view of one person after another.

    Args:
        studio: Store, encoder and reports.
    """

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self._variety: Fresh[float] = Fresh(studio.store.revision, self._measure)
        self._slips: Fresh[tuple[Suspect, ...]] = Fresh(studio.learned_of, self._suspected)
        self._lock = threading.Lock()

    def _suspected(self, person: str) -> tuple[Suspect, ...]:
        studio = self._studio
        return studio.tools.second_look(studio.store, studio.encoder(), person, MOST_SLIPS, **studio.faded(person))

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
        return unsettled(self._studio.store, person, suspects) if suspects else []

    def look_again(self, person: str, number: int, before: str, outcome: str) -> None:
        """Keep an answer, or change it, as `look_again` of the taste does; two clicks come one after the other.

        Raises:
            ComparisonError: as there.
        """
        with self._lock:
            look_again(self._studio.store, person, number, before, outcome)

    def _measure(self, person: str) -> float:
        """How varied the pictures of the latest answers are, compared with all."""
        answers = self._studio.store.newest(person, EVER)
        images = [[side for one in some for side in (one.left, one.right)] for some in (answers[:SHOWN], answers)]
        known = self._studio.store.vectors(self._studio.encoder().identity, list(dict.fromkeys(images[1])))
        vectors = [[torch.from_numpy(known[one]) for one in dict.fromkeys(some) if one in known] for some in images]
        return variety(*vectors)
