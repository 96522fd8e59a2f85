"""What a training would be, said before it begins: how many answers, how long, and whether it can be worth it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...adapters.errors import FineTuneError, NotEnoughAnswersError
from ...adapters.taste.shares import wilson_interval

if TYPE_CHECKING:
    from ...adapters.comparisons import PreferenceStore
    from ...adapters.finetune.pairs import LabelledPair

__all__ = ["Plan", "enough_to_tell", "plan_of"]

SURE = 15  # held-out answers of which a clear taste gets enough right to be sure of; 100 answers hold back so many


@dataclass(frozen=True)
class Plan:
    """What a training on somebody's answers would be.

    Attributes:
        pairs: Answers that prefer one of two pictures. held_out: Those of them that it would be judged by.
        dropped: Those that would be left out as doubted; None where that can't be told, so that all are trained on.
        steps, batch, rank, learning_rate: As they would be chosen.
        sure: Share of the held-out answers that must be right before it is sure that the LoRA helps; None: too few.
        worth: One or two plain sentences.
    """

    pairs: int
    held_out: int
    dropped: int | None
    steps: int
    batch: int
    rank: int
    learning_rate: float
    sure: float | None
    worth: str


def plan_of(store: PreferenceStore, person: str, loss: str, model: str, drop_doubted: bool = True) -> Plan | None:
    """Return the plan; None where there is nothing to train on."""
    from ...adapters.finetune.memory import denoiser_of
    from ...adapters.finetune.pairs import pairs_of, split_pairs
    from ...adapters.finetune.settings import TrainSettings

    try:
        pairs = pairs_of(store, person)
    except NotEnoughAnswersError:
        return None
    kept, held = split_pairs(pairs)
    dropped: int | None = 0
    if drop_doubted:
        kept, dropped = _without_doubted(store, person, kept)
    known = denoiser_of(model)
    settled = TrainSettings(loss=loss).suited(known[0] if known else {}).settled(len(kept))
    steps, batch, rank = settled.steps or 1, settled.batch or 1, settled.rank or 1
    needed = enough_to_tell(len(held))
    sure = None if needed is None else needed / len(held)
    rate = settled.learning_rate or 0.0
    batch *= settled.accumulate
    return Plan(len(pairs), len(held), dropped, steps, batch, rank, rate, sure, _worth(needed, len(held)))


def _without_doubted(
    store: PreferenceStore, person: str, pairs: list[LabelledPair]
) -> tuple[list[LabelledPair], int | None]:
    """What would be trained on, and how many would be left out; None where nobody can tell or too few are left."""
    from ...adapters.finetune.dropping import without_doubted
    from ...adapters.finetune.vectors import stored_vectors

    try:
        kept, dropped = without_doubted(pairs, stored_vectors(store, person, pairs))
    except (FineTuneError, NotEnoughAnswersError):
        return pairs, None
    return kept, len(dropped)


def enough_to_tell(held_out: int) -> int | None:
    """Return how many of so many held-out answers must be right until it is sure that a LoRA is better than none.

    Sure means that the whole 95 % interval is above one half; None where even all of them are too few.
    """
    return next((k for k in range(held_out + 1) if wilson_interval(k, held_out)[0] > 0.5), None) if held_out else None


def _worth(needed: int | None, held_out: int) -> str:
    if needed is None:
        return (
            "Too few to be worth it: nobody could tell whether the LoRA is better than none. From about 25 answers "
            "on that can be said, and 100 are good."
        )
    if held_out < SURE:
        return (
            f"It may help: it counts as better than none if it gets {needed} of {held_out} held-back answers right. "
            "With 100 answers the result is surer."
        )
    return f"Worth trying: it counts as better than none if it gets {needed} of {held_out} held-back answers right."
