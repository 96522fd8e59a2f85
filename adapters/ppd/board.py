"""Curves and pictures of a training for TensorBoard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..finetune.told import TrainingStep

__all__ = ["FOLDER", "Board", "open_board"]

FOLDER = "tensorboard"


class Board:
    """Writes events into a training's folder; `tensorboard --logdir FOLDER` shows them.

    Args:
        folder: Of the training.
        writer: torch's SummaryWriter, which is made at the first step that is told: what a killed training wrote of
            this step and later ones is hidden.
    """

    def __init__(self, folder: Path, writer: Callable[..., Any]) -> None:
        self._folder, self._make, self._made = folder / FOLDER, writer, list[Any]()

    def _writer(self, step: int) -> Any:
        if not self._made:
            self._made.append(self._make(str(self._folder), purge_step=step))
        return self._made[0]

    def step(self, step: TrainingStep) -> None:
        """Loss, margin and accuracy of a step, and of the held-out people where they were looked at."""
        writer = self._writer(step.step)
        for name in ("loss", "margin", "accuracy"):
            writer.add_scalar(f"training/{name}", getattr(step, name), step.step)
        if step.judgement is not None:
            for name in ("accuracy", "log_loss", "chosen_error"):
                writer.add_scalar(f"held-out people/{name}", getattr(step.judgement, name), step.step)
            writer.flush()

    def samples(self, step: int, files: Sequence[Path]) -> None:
        """Pictures, each under the names of its folders and its number, so that a slider goes through the steps."""
        writer = self._writer(step)
        for file in files:
            with Image.open(file) as picture:
                pixels = np.asarray(picture.convert("RGB"))
            name = f"{file.parent.parent.name}/{file.stem.split(' ')[0]}"
            writer.add_image(name, pixels, step, dataformats="HWC")
        writer.flush()

    def close(self) -> None:
        """Write what is left."""
        for writer in self._made:
            writer.close()


def open_board(folder: Path) -> Board | None:
    """Return a board for a training's folder; None where TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard.writer import SummaryWriter
    except ImportError:
        return None
    return Board(folder, SummaryWriter)
