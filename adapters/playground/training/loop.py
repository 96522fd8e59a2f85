"""The loop that every part of the playground is trained with: it can be stopped at any moment and goes on later.

What a step sees depends only on the seed and the step's number, so a stopped run sees what one in one piece sees.
"""

from __future__ import annotations

import copy
import math
import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

__all__ = ["train"]

_SAVE_EVERY = 60.0  # seconds


def train(
    name: str,
    model: torch.nn.Module,
    step_loss: Callable[[random.Random, torch.Generator], torch.Tensor],
    *,
    steps: int,
    learning_rate: float,
    folder: Path,
    averaging: float = 0.999,
    seed: int = 0,
) -> torch.nn.Module:
    """Train a model and return its averaged copy.

    AdamW; the learning rate rises over 100 steps and falls along a cosine to zero.

    Args:
        name: Of the checkpoint, `<name>.pt` in `folder`; one that is there is gone on from.
        model: Its parameters that require gradients are trained.
        step_loss: One step's loss, given the step's own sources of chance.
        steps: How many steps in all.
        learning_rate: At the top.
        folder: Where checkpoints lie.
        averaging: Decay of the exponential average of the weights, in [0, 1).
        seed: Fixes what every step sees.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, betas=(0.9, 0.99), weight_decay=0.01)
    average = copy.deepcopy(model).requires_grad_(False)
    checkpoint = _Checkpoint(folder / f"{name}.pt", {"model": model, "average": average, "optimizer": optimizer})
    first = checkpoint.load()
    model.train()
    started = last_saved = time.monotonic()
    shown = 0.0
    for step in range(first, steps):
        rate = learning_rate * min(1.0, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = step_loss(random.Random(f"{seed}/{step}"), torch.Generator().manual_seed(seed * 1_000_003 + step))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        _follow(average, model, min(averaging, (1 + step) / (10 + step)))
        shown = loss.item() if step == first else 0.98 * shown + 0.02 * loss.item()
        if (step + 1) % 50 == 0:
            pace = (time.monotonic() - started) / (step + 1 - first)
            print(f"{name} {step + 1}/{steps} loss {shown:.4f} {pace:.2f} s/step", flush=True)
        if time.monotonic() - last_saved > _SAVE_EVERY or step + 1 == steps:
            checkpoint.save(step + 1)
            last_saved = time.monotonic()
    return average.eval()


def _follow(average: torch.nn.Module, model: torch.nn.Module, decay: float) -> None:
    """Move the average of the weights on by one step."""
    with torch.no_grad():
        for slow, fast in zip(average.parameters(), model.parameters(), strict=True):
            slow.lerp_(fast, 1 - decay)


@dataclass(frozen=True)
class _Checkpoint:
    """What a training goes on from.

    Attributes:
        file: It is there whole or not at all.
        parts: What has a state, by name.
    """

    file: Path
    parts: Mapping[str, torch.nn.Module | torch.optim.Optimizer]

    def load(self) -> int:
        """Take up the states of the file, and return how many steps were done; 0 where there is none."""
        if not self.file.is_file():
            return 0
        saved = torch.load(self.file, weights_only=True)
        for name, part in self.parts.items():
            part.load_state_dict(saved[name])
        return int(saved["step"])

    def save(self, step: int) -> None:
        state = {name: part.state_dict() for name, part in self.parts.items()}
        torch.save(state | {"step": step}, self.file.with_suffix(".part"))
        os.replace(self.file.with_suffix(".part"), self.file)
