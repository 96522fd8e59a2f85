"""The loop's face: from pairs that were made ready to a LoRA, or to a whole model's weights, for every loss alike."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from ..errors import FineTuneError
from .checkpoint import STAGE, only_training
from .gradients import KnownOfPairs
from .judging import Judge
from .lora import reference
from .prepared import Prepared
from .settings import TrainSettings
from .several import Several, several
from .step import Denoiser
from .told import Trained, TrainingStep
from .training import Training
from .weights import load_state

__all__ = ["train_lora"]


def train_lora(
    denoiser: Denoiser,
    parameters: Sequence[nn.Parameter],
    data: Prepared,
    held_out: Prepared | None,
    settings: TrainSettings,
    folder: Path,
    known: KnownOfPairs | None = None,
    on_step: Callable[[TrainingStep], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    about: str = "",
    among: Several | None = None,
    at_once: int | None = None,
) -> Trained:
    """Train a LoRA; a training of the same settings that was stopped in this folder goes on, to the bit.

    One that came to its end makes room for one of other settings or pairs.

    Args:
        denoiser: With a LoRA on it; without, where `settings.full`.
        parameters: As `add_lora` or `all_parameters` gave them.
        data: N pairs. held_out: Pairs to judge by, or None.
        settings: What is None in them is settled.
        folder: For the checkpoint; stages before the last have one each in it.
        known: What is known of the pairs beside their latents.
        on_step: Called after each step.
        cancelled: Asked before each; the checkpoint is kept.
        about: Which model and which pairs, as text, to know a training again by.
        among: Processes that train together; None finds out by itself.
        at_once: Pairs in one forward pass at most, where memory holds no batch; None: a batch. A training that was
            stopped goes on with any, and then comes to the same weights but for rounding.

    Raises:
        CancelledError: `cancelled` said so.
        FineTuneError: another training is at work in this folder, or was stopped there that is not this one; NaN, or a
            full disk; the last checkpoint is safe.
    """
    among, known = several() if among is None else among, known or KnownOfPairs()
    settings = settings.settled(len(data), among.count)
    losses = (*settings.stages, settings.loss)
    if "rpo" in losses and known.embeddings is None:
        raise FineTuneError("Cannot train with rpo: found no embeddings of the pictures; choose an encoder.")
    judge = Judge(denoiser, held_out, settings.seed) if held_out is not None and len(held_out) else None
    # One process at a time in a folder, or the first of several that train together.
    with only_training(folder) if among.first else contextlib.nullcontext():
        if judge is not None and among.first and (settings.full or settings.stages):
            # Later the reference will be another: what was trained before.
            with contextlib.nullcontext() if settings.full else reference(denoiser.unet):
                judge.begin()
        for number, loss in enumerate(losses):
            last = number == len(losses) - 1
            stage = settings
            if not last:
                stage = replace(settings, loss=loss, beta=None, variant="").settled(len(data), among.count)
            place = folder if last else folder / f"{STAGE}{number + 1} {loss}"
            # A stage is known again by all before it, too.
            which = "/".join((about, *losses[:number]))
            if among.first:
                place.mkdir(parents=True, exist_ok=True)
            given = denoiser, parameters, data, judge, stage, place, known, which, among
            training = Training(*given, later=number > 0, last=last, at_once=at_once)
            found = training.run(_counted(on_step, number, len(losses)), cancelled)
            if not last:
                load_state(denoiser.unet, found.state, settings.full)
    return found


def _counted(
    on_step: Callable[[TrainingStep], None] | None, before: int, stages: int
) -> Callable[[TrainingStep], None] | None:
    """Tells of the steps of all stages as of one training."""
    if on_step is None or stages == 1:
        return on_step

    def tell(one: TrainingStep) -> None:
        done, all_steps = before * one.steps + one.step, stages * one.steps
        each = one.seconds_left / max(1, one.steps - one.step)
        seconds = one.seconds_left + (stages - before - 1) * one.steps * each
        on_step(replace(one, step=done, steps=all_steps, seconds_left=seconds))

    return tell
