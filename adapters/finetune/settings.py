"""How a LoRA is trained, and what is taken where nothing is said."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..errors import FineTuneError
from .losses import BETAS, LOSSES

__all__ = ["TrainSettings"]

LARGEST_BATCH = 8


@dataclass(frozen=True)
class TrainSettings:
    """Settings of one training; None is chosen by `settled` from how many pairs there are.

    Attributes:
        loss: A name in `LOSSES`.
        beta: In the loss's unit; None is the paper's.
        rank: Of the LoRA, 1 to 128.
        learning_rate: Of AdamW, > 0, constant after the first 5 % of the steps.
        steps: Optimiser steps, >= 1.
        batch: Pairs per forward pass, >= 1.
        accumulate: Batches per optimiser step, >= 1.
        caption_dropout: Share of the pairs that are seen without their prompt, in [0, 1].
        flip_rate: For `cdpo` and `rdpo`.
        temperature: Of `rpo`'s contrast.
        seed: Fixes noise, order and the LoRA's start.
        size: Longer side of the pictures in pixels; None is the model's own.
        check_every: Steps between two looks at the held-out pairs; None is a twentieth of all steps, at least 10.
    """

    loss: str = "dpo"
    beta: float | None = None
    rank: int | None = None
    learning_rate: float | None = None
    steps: int | None = None
    batch: int | None = None
    accumulate: int = 1
    caption_dropout: float = 0.1
    flip_rate: float = 0.1
    temperature: float = 0.1
    seed: int = 0
    size: int | None = None
    check_every: int | None = None

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise FineTuneError(f"Cannot train: loss {self.loss!r}; expected one of {', '.join(LOSSES)}.")
        limits = {
            "beta": (0.0, 1e9),
            "rank": (1, 128),
            "learning_rate": (1e-9, 1.0),
            "steps": (1, 1_000_000),
            "batch": (1, 1024),
            "accumulate": (1, 4096),
            "caption_dropout": (0.0, 1.0),
            "flip_rate": (0.0, 0.49),
            "temperature": (1e-4, 100.0),
            "size": (8, 4096),
            "check_every": (1, 1_000_000),
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise FineTuneError(f"Cannot train: {name} is {value}; expected {low:g} to {high:g}.")

    def settled(self, pairs: int) -> TrainSettings:
        """Fill in what is None for a training on so many pairs."""
        batch = self.batch or max(1, min(LARGEST_BATCH, pairs))
        # About eight looks at each pair, with noise of another kind each time, but never a blink or a night.
        steps = self.steps or min(2000, max(100, 8 * pairs // (batch * self.accumulate)))
        return replace(
            self,
            beta=BETAS[self.loss] if self.beta is None else self.beta,
            rank=self.rank or (4 if pairs < 50 else 8),
            learning_rate=self.learning_rate or 1e-4,
            steps=steps,
            batch=batch,
            check_every=self.check_every or max(10, steps // 20),
        )
