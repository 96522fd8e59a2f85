"""What a PPD's training tells when it is done."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..finetune.judging import Judgement
from .model import PPD
from .settings import PPDSettings

__all__ = ["TrainedPPD"]


@dataclass(frozen=True, eq=False)
class TrainedPPD:
    """A PPD, and how it was found to be for people that it never saw.

    Attributes:
        ppd: With the weights of the best look, or of the last step without any.
        settings: As they were settled.
        steps: Steps that were done.
        best: The look that the weights are from; None without held-out people.
        looks: All of them.
        hits: (N,) of the best look: 1 where the model moved towards the chosen picture of a held-out pair, else 0.
        people: (N,) index of the person who answered each; None without held-out people.
    """

    ppd: PPD
    settings: PPDSettings
    steps: int
    best: Judgement | None
    looks: tuple[Judgement, ...]
    hits: Tensor
    people: Tensor | None = None

    @property
    def by_person(self) -> Tensor:
        """(P,) share of each held-out person's pairs that the model moved rightly for."""
        if self.people is None or self.best is None:
            return self.hits[:0]
        return torch.tensor([float(self.hits[self.people == person].mean()) for person in torch.unique(self.people)])

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the mean share over people: mean +- 1.96 standard errors; (0, 1) of fewer than three.

        One person's pairs are not independent of each other, so it is people that are counted.
        """
        shares = self.by_person
        if len(shares) < 3:
            return 0.0, 1.0
        half = 1.96 * float(shares.std()) / math.sqrt(len(shares))
        return max(0.0, float(shares.mean()) - half), min(1.0, float(shares.mean()) + half)

    @property
    def better(self) -> bool | None:
        """Whether it does better than the base on people that it never saw; None when that is not known.

        The same people chose the best look, so it is better only where the whole interval is above a half.
        """
        if self.best is None:
            return None
        if not (self.best.log_loss < math.log(2) and float(self.by_person.mean()) > 0.5):
            return False
        return True if self.interval[0] > 0.5 else None

    @property
    def _by_name(self) -> bool:
        return getattr(self.ppd.encoder, "kind", "") == "learned"

    @property
    def summary(self) -> str:
        """One plain sentence."""
        if self.best is None:
            if self._by_name:
                return "There were too few pairs to hold some back, so nobody knows how it does for them."
            return "There were too few people to hold some back, so nobody knows how it does for people it never saw."
        low, high = self.interval
        known = f"{len(self.by_person)} people it never saw, each known by {self.settings.judged_support} answers"
        if self._by_name:
            known = f"{len(self.by_person)} people whom it knows by name, on pairs of theirs that it never saw"
        found = (
            f"For {known}, it moved towards the picture that they chose in {100 * float(self.by_person.mean()):.0f} % "
            f"of {len(self.hits)} pairs (95 % interval over people {100 * low:.0f} to {100 * high:.0f} %; best after "
            f"{self.best.step} of {self.steps} steps)"
        )
        verdicts = {True: "better than", False: "no better than", None: "too little to say that it is better than"}
        return f"{found}: {verdicts[self.better]} the base."
