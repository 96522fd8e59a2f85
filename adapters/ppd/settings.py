"""How a PPD is trained, and what is taken where nothing is said."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..errors import PPDError
from ..finetune.losses import BETAS, LOSSES

__all__ = ["USABLE_LOSSES", "PPDSettings"]

# rpo contrasts pictures across people, and adaptive_dpo doubts a person by what others say: neither makes sense here.
USABLE_LOSSES = tuple(name for name in LOSSES if name not in ("rpo", "adaptive_dpo"))
PRECISIONS = ("float32", "bfloat16")
SCHEDULES = ("constant", "cosine")


@dataclass(frozen=True)
class PPDSettings:
    """Settings of one training; None is chosen by `settled` from how many pairs there are.

    Attributes:
        loss: One of `USABLE_LOSSES`. What `kto` compares with is the mean of a process's own batch.
        beta: In the loss's unit; None is the paper's.
        learning_rate: Of AdamW, > 0. The paper has 1e-5 with 768 pairs a step, IP-Adapter 1e-4 with 64.
        weight_decay: Of AdamW, >= 0.
        schedule: Of the learning rate after the warm-up: "constant", or "cosine" down to a hundredth.
        warm_up: Share of the steps over which the learning rate rises, in [0, 1].
        clip: Longest gradient, > 0.
        steps: Optimiser steps, >= 1.
        batch: Pairs per forward pass in each process, >= 1.
        accumulate: Batches per optimiser step, >= 1.
        fewest, most: Support pairs that a user is told from; their number is drawn for each pair.
        user_dropout: Share of the pairs whose user is told from no pair at all, the average user, in [0, 1].
        caption_dropout: Share of the pairs that are seen without their prompt, in [0, 1].
        flip_rate: For `cdpo` and `rdpo`.
        judged_support: Support pairs that held-out people are told from; the paper's is 4.
        judged_pairs: Most held-out pairs that are looked at, spread over the people.
        precision: Of the forward passes, "float32" or "bfloat16"; weights and their gradients stay in float32.
        gradient_checkpointing: Compute activations twice instead of keeping them.
        seed: Fixes noise, order, support and who is held out.
        size: Side of the pictures in pixels; None is the model's own.
        held_out: Share of the people that are never trained on, in [0, 0.5].
        check_every: Steps between two looks at the held-out people; None is a twentieth of all steps, at least 10.
        save_every: Seconds between two checkpoints, more where writing one takes long; 0 is one after each step.
        sample_every: Steps between two sheets of sample pictures; 0 is none.
    """

    loss: str = "dpo"
    beta: float | None = None
    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    schedule: str = "constant"
    warm_up: float = 0.05
    clip: float = 1.0
    steps: int | None = None
    batch: int = 8
    accumulate: int = 1
    fewest: int = 1
    most: int = 16
    user_dropout: float = 0.1
    caption_dropout: float = 0.1
    flip_rate: float = 0.1
    judged_support: int = 4
    judged_pairs: int = 256
    precision: str = "float32"
    gradient_checkpointing: bool = False
    seed: int = 0
    size: int | None = None
    held_out: float = 0.1
    check_every: int | None = None
    save_every: float = 60.0
    sample_every: int = 0

    def __post_init__(self) -> None:
        choices = {"loss": USABLE_LOSSES, "precision": PRECISIONS, "schedule": SCHEDULES}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise PPDError(f"Cannot train: {name} {getattr(self, name)!r}; expected one of {', '.join(known)}.")
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise PPDError(f"Cannot train: {name} is {value}; expected {low:g} to {high:g}.")
        if self.fewest > self.most:
            raise PPDError(f"Cannot train: fewest is {self.fewest} and most {self.most}; expected fewest <= most.")

    def settled(self, pairs: int) -> PPDSettings:
        """Fill in what is None for a training on so many pairs."""
        steps = self.steps or min(20_000, max(500, 4 * pairs // (self.batch * self.accumulate)))
        return replace(
            self,
            beta=BETAS[self.loss] if self.beta is None else self.beta,
            steps=steps,
            check_every=self.check_every or max(10, steps // 20),
        )


_LIMITS = {
    "beta": (0.0, 1e9),
    "learning_rate": (1e-9, 1.0),
    "weight_decay": (0.0, 1.0),
    "warm_up": (0.0, 1.0),
    "clip": (1e-6, 1e6),
    "steps": (1, 10_000_000),
    "batch": (1, 4096),
    "accumulate": (1, 4096),
    "fewest": (1, 1024),
    "most": (1, 1024),
    "user_dropout": (0.0, 1.0),
    "caption_dropout": (0.0, 1.0),
    "flip_rate": (0.0, 0.49),
    "judged_support": (1, 1024),
    "judged_pairs": (1, 1_000_000),
    "seed": (0, 2**31 - 1),
    "size": (8, 4096),
    "held_out": (0.0, 0.5),
    "check_every": (1, 10_000_000),
    "save_every": (0.0, 1e9),
    "sample_every": (0, 10_000_000),
}
