"""What a training tells while it runs and when it is done."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from ..taste.shares import wilson_interval
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
        held_out: How many pairs it was judged by.
    """

    state: dict[str, Tensor]
    settings: TrainSettings
    steps: int
    best: Judgement | None
    looks: tuple[Judgement, ...]
    stopped: str = ""
    held_out: int = 0

    @property
    def better(self) -> bool | None:
        """Whether it does better than no LoRA on pairs that it did not train on; None when that is not known.

        The same pairs chose the best look, and of twenty looks at a LoRA that learned nothing one is nearly always
        above 50 %. So it is better only where the whole 95 % interval of the accuracy is. Of 2,000 such LoRAs, whose
        pairs' log-odds walk by Normal steps from look to look, that was so of 5 to 7 % with 10, 30 and 60 pairs held
        out and eight looks; without the interval of 60 to 67 %. Pairs of one ranking count as if they were
        independent.
        """
        if self.best is None:
            return None
        if not (self.best.log_loss < math.log(2) and self.best.accuracy > 0.5):
            return False
        low, _ = wilson_interval(self.best.accuracy * self.held_out, self.held_out)
        return True if low > 0.5 else None

    @property
    def summary(self) -> str:
        """One plain sentence."""
        if self.best is None:
            return "There were too few comparisons to hold some back, so nobody knows whether it is better than none."
        if self.better is False:
            what = "this model is no better than it was" if self.settings.full else "this LoRA is no better than none"
            right = f"{100 * self.best.accuracy:.0f} % right"
            if self.best.accuracy > 0.5:  # the wrong ones weigh as much
                right += f", with a surprise of {self.best.log_loss:.3f}, where a coin has {math.log(2):.3f}"
            return f"On comparisons it did not see, {what} ({right}). Answer more pairs, or train with another loss."
        found = (
            f"On {self.held_out} comparisons it did not see, it moved towards the chosen picture in "
            f"{100 * self.best.accuracy:.0f} % (best after {self.best.step} of {self.steps} steps)"
        )
        return f"{found}." if self.better else f"{found}: too few to be sure that it is better than none."
