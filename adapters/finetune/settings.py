"""How a model is trained, and what is taken where nothing is said."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..errors import FineTuneError
from .names import BETAS, FROZEN, MAPO_VARIANTS, OPTIMIZERS, PRECISIONS
from .usual import USUAL_LOSS

__all__ = ["TrainSettings", "lora_rate"]

LARGEST_BATCH = 8
FULL_RATE = 1e-8  # learning rate of full fine-tuning for each pair of a step
LORA_RATE, WIDE = 1e-4, 320  # learning rate of a LoRA, and channels of the first block of what it was set on
NARROW_RATE, NARROW = 3e-3, 64  # the same of a small model


def lora_rate(config: Mapping[str, Any]) -> float:
    """Return the learning rate of a LoRA for a denoiser of this configuration, where none is asked for.

    Stable Diffusion's, with 320 channels in the first block, have the rate that papers and tools take. The
    playground's, with 64, has the best of three that were tried for DPO, on other utilities than the study `align` has;
    with three times as much all losses lose the prompts. Between the two the logarithm goes straight; nothing there was
    tried. Transformers have no such blocks, and count as wide.
    """
    channels = (config.get("block_out_channels") or (WIDE,))[0]
    narrow = min(1.0, max(0.0, math.log(WIDE / channels) / math.log(WIDE / NARROW)))
    return float(LORA_RATE * (NARROW_RATE / LORA_RATE) ** narrow)


@dataclass(frozen=True)
class TrainSettings:
    """Settings of one training; None is chosen by `settled` from how many pairs there are.

    Attributes:
        loss: A name in `LOSSES`.
        beta: In the loss's unit; None is the paper's.
        rank: Of the LoRA, 1 to 128.
        learning_rate: Of the optimiser, > 0, constant after the warm-up. None is `lora_rate` of the model for a LoRA,
            1e-4 where it isn't known, and 1e-8 times the pairs of a step for full fine-tuning (what Diffusion-DPO's
            launchers do).
        steps: Optimiser steps, >= 1.
        batch: Pairs drawn together, >= 1; computed a part at a time where memory holds no more.
        accumulate: Batches per optimiser step, >= 1.
        caption_dropout: Share of the pairs that are seen without their prompt, in [0, 1].
        flip_rate: For `cdpo` and `rdpo`.
        temperature: Of `rpo`'s contrast.
        seed: Fixes noise, order and the LoRA's start.
        size: Longer side of the pictures in pixels; None is the model's own.
        check_every: Steps between two looks at the held-out pairs; None is an eighth of all steps, at least 10.
        stages: Losses of the stages before this one, each as many steps; a stage's reference is the result of the one
            before it, such as ("sft",) before "dpo".
        full: All of the denoiser's weights are trained, not a LoRA; the reference is a frozen copy of them.
        optimizer: A name in `OPTIMIZERS`.
        warmup: Share of the steps in which the rate rises from 0, in [0, 1]. None is 0.05 for a LoRA, 0.25 for full
            fine-tuning (Diffusion-DPO).
        ema: Decay of a moving average of the weights that is judged and kept in their place, such as 0.999; None: the
            weights themselves.
        precision: Of forward passes: "float32" or "bfloat16". None is bfloat16 on a GPU.
        checkpointing: Whether the backward pass computes layers again rather than keeping them. None: on a GPU.
        frozen: How the weights that a LoRA leaves as they are are held: "int8" is a byte each, and a scale for each row
            (`hold_in_bytes`). None: in the precision of forward passes.
        fixed_noise: How many draws of noise and timestep each pair has, whose reference errors are computed once
            before the training; 0 draws anew at every step.
        save_every: Steps between two checkpoints; None: a minute.
        flip: Whether half of the pairs are seen mirrored left to right, both sides together, since noise is shared.
        variant: Another reading of the last stage's loss: one of MaPO's, or "released" for Adaptive-DPO as its authors'
            code has it. "" is ours.
        drop_doubted: Whether answers are left out that a taste of all others is against (`dropping.py`).
            None: if it can be told, as vectors of the pictures are known or an encoder is at hand, and enough are left.
    """

    loss: str = USUAL_LOSS
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
    stages: tuple[str, ...] = ()
    full: bool = False
    optimizer: str = "adamw"
    warmup: float | None = None
    ema: float | None = None
    precision: str | None = None
    checkpointing: bool | None = None
    frozen: str | None = None
    fixed_noise: int = 0
    save_every: int | None = None
    flip: bool = False
    variant: str = ""
    drop_doubted: bool | None = None

    def __post_init__(self) -> None:
        choices = [("loss", loss, tuple(BETAS)) for loss in (*self.stages, self.loss)]
        choices += [
            ("optimizer", self.optimizer, OPTIMIZERS),
            ("precision", self.precision or PRECISIONS[0], PRECISIONS),
            ("frozen", self.frozen or FROZEN[0], FROZEN),
        ]
        for name, chosen, possible in choices:
            if chosen not in possible:
                raise FineTuneError(f"Cannot train: {name} {chosen!r}; expected one of {', '.join(possible)}.")
        if self.full and self.frozen:
            raise FineTuneError(
                f"Cannot train all weights with frozen {self.frozen}: none of them is frozen. Train a LoRA, or leave "
                "it out."
            )
        variants = {"mapo": MAPO_VARIANTS, "adaptive_dpo": ("released",)}.get(self.loss, ())
        if self.variant and self.variant not in variants:
            expected = f"one of {', '.join(variants)}" if variants else "none"
            raise FineTuneError(f"Cannot train with {self.loss}: variant {self.variant!r}; expected {expected}.")
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
            "seed": (0, 2**64 - 1),
            "size": (8, 4096),
            "check_every": (1, 1_000_000),
            "warmup": (0.0, 1.0),
            "ema": (0.0, 0.999999),
            "fixed_noise": (0, 1024),
            "save_every": (1, 1_000_000),
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                most = f"{high:,}" if isinstance(high, int) else f"{high:g}"  # 1,000,000 rather than 1e+06
                raise FineTuneError(f"Cannot train: {name} is {value}; expected {low:g} to {most}.")

    def suited(self, config: Mapping[str, Any]) -> TrainSettings:
        """Fill in what hangs on the model, a denoiser of this configuration."""
        if self.full or self.learning_rate is not None:
            return self
        return replace(self, learning_rate=lora_rate(config))

    def settled(self, pairs: int, processes: int = 1) -> TrainSettings:
        """Fill in what is None for a training on so many pairs, in so many processes."""
        batch = self.batch or max(1, min(LARGEST_BATCH, pairs))
        # About eight looks at each pair, with noise of another kind each time, but never a blink or a night.
        steps = self.steps or min(2000, max(100, 8 * pairs // (batch * self.accumulate * processes)))
        return replace(
            self,
            beta=BETAS[self.loss] if self.beta is None else self.beta,
            rank=self.rank or (4 if pairs < 50 else 8),
            learning_rate=self.learning_rate
            or (FULL_RATE * batch * self.accumulate * processes if self.full else LORA_RATE),
            warmup=(0.25 if self.full else 0.05) if self.warmup is None else self.warmup,
            steps=steps,
            batch=batch,
            # A look costs 8 forward passes for each held-out pair: eight of them take a quarter of the whole time.
            check_every=self.check_every or max(10, -(-steps // 8)),
        )
