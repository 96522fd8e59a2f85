"""How much an answer looks mistaken, by several measures; and the answers of a vote of measures.

Shapes: N answers, B pairs of a batch, M annotators.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..finetune.doubts import doubts_of, is_doubted
from ..finetune.losses import PairErrors, minority
from ..playground.people import FEATURES
from ._postcards import Answers, Postcards
from ._tables import Array

__all__ = ["Watcher", "auroc", "by_measures", "doubts_about", "without_doubted"]

_VOTERS = ("brightness", "colourfulness")  # beside CLIP's opinion of the caption


def doubts_about(cards: Postcards, answers: Answers) -> Tensor:
    """(N,) what a taste that learned all other answers makes of each; no picture is denoised."""
    chosen, rejected = (cards.vectors[answers.caption, side] for side in (answers.chosen, answers.rejected))
    return doubts_of(chosen, rejected)


def without_doubted(cards: Postcards, answers: Answers) -> Answers:
    """Those that `palate train lora --drop-doubted` would train on."""
    return answers[np.nonzero(~is_doubted(doubts_about(cards, answers)))[0]]


class Watcher:
    """Keeps Adaptive-DPO's metric of every pair at every visit, as released and as this room has it."""

    def __init__(self, beta: float) -> None:
        self._beta = beta
        self._rows: list[int] = []
        self._seen: dict[str, list[Tensor]] = {"released": [], "score": [], "confidence": []}

    def __call__(self, rows: Sequence[int], errors: PairErrors, annotators: Sequence[PairErrors]) -> None:
        """As `KnownOfPairs.watch`."""
        log_odds = torch.stack([one.log_odds(self._beta).detach() for one in (errors, *annotators)])
        ours, released = minority(log_odds), minority(log_odds, released=True)
        self._rows += rows
        for name, value in (("released", released.score), ("score", ours.score), ("confidence", released.doubt)):
            self._seen[name].append(value)

    def kept(self) -> dict[str, Tensor]:
        """Pairs in the order of their visits, and the metrics of each."""
        found = {name: torch.cat(values) if values else torch.zeros(0) for name, values in self._seen.items()}
        return {"rows": torch.tensor(self._rows, dtype=torch.long), **found}


def auroc(suspicion: Array, planted: npt.NDArray[np.bool_]) -> float:
    """Area under the curve of hits over false alarms: how often a planted one is odder than another; even counts half.

    Returns:
        In [0, 1], 0.5 for a coin; NaN without planted ones or without others.
    """
    mistaken, others = suspicion[planted], suspicion[~planted]
    if not len(mistaken) or not len(others):
        return float("nan")
    above = mistaken[:, None] - others
    return float(np.mean((above > 0) + 0.5 * (above == 0)))


def by_measures(cards: Postcards, answers: Answers) -> Answers:
    """The answers as the majority of three measures would have given them: CLIP's, brightness, colourfulness."""
    columns = [FEATURES.index(name) for name in _VOTERS]
    chosen, rejected = (_measures(cards, answers, side, columns) for side in (answers.chosen, answers.rejected))
    turned = np.sign(chosen - rejected).sum(axis=1) < 0
    return Answers(
        answers.caption,
        np.where(turned, answers.rejected, answers.chosen),
        np.where(turned, answers.chosen, answers.rejected),
        np.where(turned, -answers.truth, answers.truth),
        answers.planted,
    )


def _measures(cards: Postcards, answers: Answers, side: Any, columns: Sequence[int]) -> Array:
    """(N, 3)."""
    said = (cards.vectors[answers.caption, side] * cards.texts[answers.caption]).sum(dim=1).double().numpy()
    return np.column_stack([said, cards.measured[answers.caption, side][:, columns]])
