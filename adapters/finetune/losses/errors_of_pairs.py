"""What every loss is given and gives back: denoising errors of pairs of images.

Shapes: B pairs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...errors import FineTuneError, ShapeError

__all__ = ["PairErrors", "PairLoss", "require_number"]


@dataclass(frozen=True, eq=False)
class PairErrors:
    """Mean squared errors of a denoiser's predictions on both images of B pairs, and of the reference's.

    Each is the mean over channels, height and width (a mean, not a sum) of (prediction - target)^2; the target is the
    noise, the velocity or the flow, as the model predicts. Both images of a pair, and policy and reference, are given
    the same timestep and the same noise: then the difference of two errors says something.

    Attributes:
        chosen, rejected: (B,) the trained policy's.
        ref_chosen, ref_rejected: (B,) the frozen reference's, without gradient; None for losses that need none.

    Raises:
        ShapeError: they do not all have one shape (B,), or only one side of the reference is there.
    """

    chosen: Tensor
    rejected: Tensor
    ref_chosen: Tensor | None = None
    ref_rejected: Tensor | None = None

    def __post_init__(self) -> None:
        shapes = {name: None if value is None else tuple(value.shape) for name, value in vars(self).items()}
        given = {shape for shape in shapes.values() if shape is not None}
        halved = (self.ref_chosen is None) != (self.ref_rejected is None)
        if len(given) != 1 or len(next(iter(given))) != 1 or halved:
            found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
            raise ShapeError(f"Cannot compare errors of pairs: found {found}; expected one shape (B,) for all.")

    @classmethod
    def joined(cls, parts: Sequence[PairErrors]) -> PairErrors:
        """The errors of parts of a batch, one after the other; all of them have a reference's or none has."""
        values: dict[str, Any] = {}
        for name in vars(parts[0]):
            each = [getattr(part, name) for part in parts]
            values[name] = None if each[0] is None else torch.cat(each)
        return cls(**values)

    @property
    def reference(self) -> tuple[Tensor, Tensor]:
        """ref_chosen and ref_rejected (B,) in float32.

        Raises:
            ShapeError: there are none.
        """
        if self.ref_chosen is None or self.ref_rejected is None:
            raise ShapeError(
                "Cannot compute this loss: found no errors of the reference model; expected ref_chosen and "
                "ref_rejected. Run the same batch through the reference (the model with its LoRA off), or use `sft` "
                "or `mapo`, which need none."
            )
        return self.ref_chosen.float(), self.ref_rejected.float()

    def improvement(self) -> tuple[Tensor, Tensor]:
        """By how much the policy's error is below the reference's, (B,) for the chosen and for the rejected image."""
        chosen, rejected = self.reference
        return chosen - self.chosen.float(), rejected - self.rejected.float()

    def log_odds(self, beta: float) -> Tensor:
        """beta / 2 * (improvement on the chosen - improvement on the rejected image), (B,) in nats.

        The implicit log-odds of Diffusion-DPO: above 0 where the policy agrees with the person. The one place where
        the half stands: scripts that leave it out use half of our beta.
        """
        require_number("beta", beta, above=0.0)
        chosen, rejected = self.improvement()
        return 0.5 * beta * (chosen - rejected)


@dataclass(frozen=True, eq=False)
class PairLoss:
    """A loss and what it saw.

    Attributes:
        loss: (B,) one number per pair; the training loss is its mean.
        margin: (B,) without gradient; above 0 where the policy agrees with the person. Its unit is the loss's own.
    """

    loss: Tensor
    margin: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "margin", self.margin.detach())

    @property
    def accuracy(self) -> float:
        """Share of pairs with a margin above 0, in [0, 1]."""
        return float((self.margin > 0).float().mean())


def require_number(
    name: str, value: float, *, above: float | None = None, least: float | None = None, below: float | None = None
) -> None:
    """Refuse a setting of a loss that is outside its range.

    Raises:
        FineTuneError: it is, or is no finite number.
    """
    low = above is None or value > above
    low = low and (least is None or value >= least)
    if math.isfinite(value) and low and (below is None or value < below):
        return
    limits = [f"above {above:g}"] if above is not None else []
    limits += [f"{least:g} or more"] if least is not None else []
    limits += [f"below {below:g}"] if below is not None else []
    raise FineTuneError(f"Cannot compute this loss: {name} is {value}; expected a number {' and '.join(limits)}.")
