"""Curves and pictures of a training for TensorBoard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..finetune.told import TrainingStep

__all__ = ["FOLDER", "Board", "open_board"]

FOLDER = "tensorboard"


class Board:
    """Writes events into a folder; `palate train` names it, `tensorboard --logdir FOLDER` shows it.

    Args:
        writer: torch's SummaryWriter.
    """

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def step(self, step: TrainingStep) -> None:
        """Loss, margin and accuracy of a step, and of the held-out people where they were looked at."""
        for name in ("loss", "margin", "accuracy"):
            self._writer.add_scalar(f"training/{name}", getattr(step, name), step.step)
        if step.judgement is not None:
            for name in ("accuracy", "log_loss", "chosen_error"):
                self._writer.add_scalar(f"held-out people/{name}", getattr(step.judgement, name), step.step)
            self._writer.flush()

    def samples(self, step: int, files: Sequence[Path]) -> None:
        """Pictures, each under the names of its folders and its number, so that a slider goes through the steps."""
        for file in files:
            with Image.open(file) as picture:
                pixels = np.asarray(picture.convert("RGB"))
            name = f"{file.parent.parent.name}/{file.stem.split(' ')[0]}"
            self._writer.add_image(name, pixels, step, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


def open_board(folder: Path, done: int = 0) -> Board | None:
    """Return a board for a training's folder; None where TensorBoard is not installed.

    Args:
        folder: Of the training.
        done: Steps that were done before; what was written of later ones is hidden.
    """
    try:
        from torch.utils.tensorboard.writer import SummaryWriter
    except ImportError:
        return None
    writer: Any = SummaryWriter(str(folder / FOLDER), purge_step=done + 1 if done else None)
    return Board(writer)
