"""The training of a PPD: one denoiser that learns what many people prefer, each known by a few other answers.

    L = -log sigmoid(beta / 2 * ((ref+ - err+) - (ref- - err-))),  err: given the user's tokens, ref: without

All that is trained is the user attention and the user encoder; the denoiser is frozen, and with the user left out it is
the reference. Both sides of a pair have one noise and one timestep.
Source: Dang et al. 2025, PPD, arXiv:2501.06655. Differs: a dropped user is one known from no pair (the average user),
since with tokens of zero, as the paper has it, nothing would be learned from that pair.

Shapes: B pairs of a batch, N pairs in all.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CancelledError, PPDError
from ..finetune.checkpoint import checkpoint_of, only_training, write_checkpoint
from ..finetune.frozen import forget_inputs
from ..finetune.judging import Judge, Judgement
from ..finetune.noising import Noising
from ..finetune.several import Several
from ..finetune.step import Denoiser
from ..finetune.told import TrainingStep
from .batches import PersonalDenoiser, Queries, spread_queries
from .data import PPDData
from .denoisers import branch_in
from .model import PPD
from .settings import PPDSettings
from .stepping import Stepper
from .trained import TrainedPPD

__all__ = ["train_ppd"]

_STATE = ("step", "parameters", "optimizer", "looks", "best")  # what a checkpoint is gone on from
_SAVING = 20.0  # a checkpoint of gigabytes is written no more often than this many times as long as it takes


def train_ppd(
    ppd: PPD,
    unet: Any,
    noising: Noising,
    data: PPDData,
    held_out: PPDData | None,
    settings: PPDSettings,
    folder: Path,
    on_step: Callable[[TrainingStep], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    about: str = "",
    several: Several | None = None,
) -> TrainedPPD:
    """Train a PPD; a training of the same settings that was stopped in this folder goes on, to the bit.

    Args:
        ppd: Attention and encoder to train, in place: in the end it is what was best for the held-out people, or what
            it was after the last step without any.
        unet: The denoiser, as `layers_in` takes it, where it is to compute; it is frozen.
        noising: What it predicts.
        data: N pairs. held_out: Pairs of other people to judge by, or None.
        settings: What is None in them is settled.
        folder: For the checkpoint.
        on_step: Called after each step, with the PPD as it is then.
        cancelled: Asked before each; the checkpoint is kept.
        about: Which model and which pairs, as text, to know a training again by.
        several: Who this process is among those that train together; None: it is alone. P of them with batches of B
            do what one does with batches of P B.

    Raises:
        CancelledError: `cancelled` said so.
        FineTuneError: another training is at work in this folder, or another one, or one of another version, was
            stopped there; or the checkpoint can't be written.
        PPDError: no encoder; NaN. The last checkpoint is safe.
        OutOfMemoryError: a step takes more memory than there is.
    """
    from ..steering.placement import named_when_out_of_memory

    if ppd.encoder is None:
        raise PPDError("Cannot train a PPD without a user encoder; expected one, for example of the kind 'pairs'.")
    several = several or Several()
    device = next(unet.parameters()).device
    unet.requires_grad_(False)
    if settings.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    forget_inputs(unet)
    ppd.to(device, torch.float32)
    unet.train(settings.gradient_checkpointing)  # some of diffusers' checkpoint in this mode only
    for module in unet.modules():
        if isinstance(module, nn.Dropout):  # as Stable Cascade has it: the reference would drop others than the model
            module.eval()
    holding = only_training(folder if several.first else folder / f"process-{several.index}")
    with holding, branch_in(unet, ppd) as branch:
        denoiser = Denoiser(unet, noising, device, getattr(torch, settings.precision))
        personal = PersonalDenoiser(denoiser, ppd.encoder, branch)
        training = _Training(ppd, personal, data, held_out, settings.settled(len(data)), folder, about, several)
        try:
            return named_when_out_of_memory(
                "train this PPD",
                "Train with a smaller batch and more of them a step, with gradient checkpointing, or at a lower size.",
                lambda: training.run(on_step, cancelled),
            )
        finally:
            unet.eval()


class _Training:
    """One training at work; `train_ppd` is its face."""

    def __init__(
        self,
        ppd: PPD,
        denoiser: PersonalDenoiser,
        data: PPDData,
        held_out: PPDData | None,
        settings: PPDSettings,
        folder: Path,
        about: str,
        several: Several,
    ) -> None:
        assert settings.steps and settings.check_every
        self.ppd, self.denoiser, self.data, self.settings = ppd, denoiser, data, settings
        self.folder, self.about, self.several = folder, about, several
        self.steps, self.check_every = settings.steps, settings.check_every
        self.weights = {name: weight for name, weight in ppd.named_parameters() if weight.requires_grad}
        self.stepper = Stepper(denoiser, data, settings, several, list(self.weights.values()))
        self.queries = _queries(held_out, settings) if several.first else None
        self.judged = bool(several.told(self.queries is not None))
        self.judge = None if self.queries is None else Judge(denoiser, self.queries, settings.seed)
        self.looks: list[Judgement] = []
        self.hits = torch.zeros(0)
        self.best: tuple[Judgement, dict[str, Tensor]] | None = None
        self.done = 0

    def run(self, on_step: Callable[[TrainingStep], None] | None, cancelled: Callable[[], bool] | None) -> TrainedPPD:
        self._resume()
        started, first, saved, pause = time.monotonic(), self.done, time.monotonic(), self.settings.save_every
        while self.done < self.steps:
            if self.several.any(cancelled is not None and cancelled()):
                self._save()
                raise CancelledError("Training stopped. Start it again with the same name and settings to go on.")
            found = self.stepper.step(self.done)
            self.done += 1
            look = self._look() if self.done % self.check_every == 0 or self.done == self.steps else None
            if on_step is not None:
                left = (time.monotonic() - started) / (self.done - first) * (self.steps - self.done)
                on_step(TrainingStep(self.done, self.steps, *found, left, look))
            if time.monotonic() - saved >= pause or self.done == self.steps:
                took = self._save()
                pause = self.settings.save_every and max(self.settings.save_every, _SAVING * took)
                saved = time.monotonic()
        return self._ended()

    def _ended(self) -> TrainedPPD:
        """What came of it, the same in all processes."""
        best = None if self.best is None else self.best[0]
        if self.best is not None:
            if self.several.first:
                self._load(self.best[1])
            self.several.same(self.weights.values())
        people = None if self.queries is None else self.queries.people
        hits, people = self.several.told((self.hits, people))
        return TrainedPPD(self.ppd, self.settings, self.done, best, tuple(self.looks), hits, people)

    # -- judging, and where it stands

    def _look(self) -> Judgement | None:
        """The first process looks and keeps the best weights; the others hear of it."""
        if not self.judged:
            return None
        look: Judgement = self.several.told(None if self.judge is None else self._seen(self.judge))
        self.looks.append(look)
        if self.best is None or look.log_loss < self.best[0].log_loss:
            self.best = look, {} if self.judge is None else self._state()
            self.hits = self.hits if self.judge is None else self.judge.hits
        return look

    def _seen(self, judge: Judge) -> Judgement:
        if not len(judge.hits):
            with self.denoiser.nobody():
                judge.begin()
        look = judge.look(self.done)
        self.denoiser.forget()
        return look

    def _state(self) -> dict[str, Tensor]:
        return {name: weight.detach().cpu().clone() for name, weight in self.weights.items()}

    def _load(self, state: dict[str, Tensor]) -> None:
        if {name: value.shape for name, value in state.items()} != {n: w.shape for n, w in self.weights.items()}:
            raise PPDError(
                f"Cannot go on with the training in {self.folder}: its weights are those of another PPD. Choose "
                "another name, or delete it."
            )
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(state[name])

    def _identity(self) -> dict[str, Any]:
        return {**asdict(self.settings), "pairs": len(self.data), "about": self.about, "processes": self.several.count}

    def _save(self) -> float:
        """Write where the training stands, and return how many seconds that took."""
        started = time.monotonic()
        if not self.several.first:
            return 0.0
        best = None if self.best is None else {"look": asdict(self.best[0]), "state": self.best[1], "hits": self.hits}
        write_checkpoint(
            self.folder,
            {
                "step": self.done,
                "ended": self.done == self.steps,
                "settings": self._identity(),
                "parameters": self._state(),
                "optimizer": self.stepper.optimizer.state_dict(),
                "looks": [asdict(look) for look in self.looks],
                "best": best,
            },
        )
        return time.monotonic() - started

    def _resume(self) -> None:
        saved = checkpoint_of(self.folder, self._identity(), _STATE)
        if saved is None:
            return
        self._load(saved["parameters"])
        self.stepper.optimizer.load_state_dict(saved["optimizer"])
        self.looks = [Judgement(**look) for look in saved["looks"]]
        if saved["best"] is not None:
            self.best, self.hits = (Judgement(**saved["best"]["look"]), saved["best"]["state"]), saved["best"]["hits"]
        self.done = int(saved["step"])


def _queries(held_out: PPDData | None, settings: PPDSettings) -> Queries | None:
    if held_out is None or not len(held_out):
        return None
    rows = spread_queries(held_out, settings.judged_pairs, settings.seed)
    queries = Queries(held_out, rows, settings.judged_support, settings.seed)
    return queries if len(queries) else None
