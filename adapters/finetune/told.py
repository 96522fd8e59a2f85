"""What a training tells while it runs and when it is done."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from .judging import Judgement
from .settings import TrainSettings

__all__ = ["Trained", "TrainingStep"]


@dataclass(frozen=True)
class TrainingStep:
    """One step of the training, as it is told meanwhile.

    Attributes:
        step: Steps done. steps: In all.
        loss, margin, accuracy: Of this step's pairs.
        seconds_left: Estimated.
        judgement: Of the held-out pairs, where they were looked at now.
    """

    step: int
    steps: int
    loss: float
    margin: float
    accuracy: float
    seconds_left: float
    judgement: Judgement | None = None


@dataclass(frozen=True, eq=False)
class Trained:
    """A LoRA, and how it was found to be.

    Attributes:
        state: As `lora_of` gives it: of the best look at the held-out pairs, or of the last step without any.
        settings: As they were settled.
        steps: Steps that were done.
        best: The look that `state` is from; None without held-out pairs.
        looks: All of them.
        stopped: Why it ended before its last step; "" when it didn't.
    """

    state: dict[str, Tensor]
    settings: TrainSettings
    steps: int
    best: Judgement | None
    looks: tuple[Judgement, ...]
    stopped: str = ""

    @property
    def better(self) -> bool | None:
        """Whether it does better than no LoRA on pairs that it did not see; None when that is not known."""
        return None if self.best is None else self.best.log_loss < math.log(2) and self.best.accuracy > 0.5

    @property
    def summary(self) -> str:
        """One plain sentence."""
        if self.best is None:
            return "There were too few comparisons to hold some back, so nobody knows whether it is better than none."
        if not self.better:
            return (
                "On comparisons it did not see, this LoRA is no better than none "
                f"({100 * self.best.accuracy:.0f} % right). Answer more pairs, or train with another loss."
            )
        return (
            f"On comparisons it did not see, it moved towards the chosen picture in {100 * self.best.accuracy:.0f} % "
            f"(best after {self.best.step} of {self.steps} steps)."
        )
