"""One stage of a training: its steps, its looks at pairs it doesn't learn from, and where it stands on disk."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CancelledError, FineTuneError
from ..steering.placement import as_many_as_fit, named_when_out_of_memory
from .annotators import PastSelves
from .checkpoint import checkpoint_of, of_another_version, write_checkpoint
from .drawing import Drawing
from .fixed import FixedNoise
from .gradients import Gradients, KnownOfPairs
from .judging import Judge, Judgement
from .losses import REFERENCE_FREE, PairLoss
from .optimizer import make_optimizer
from .prepared import Prepared
from .settings import TrainSettings
from .several import Several
from .step import Denoiser
from .told import Trained, TrainingStep
from .weights import Kept, state_of

__all__ = ["Training"]

_SAVE_EVERY = 60.0  # seconds
# Chosen error over the untrained model's, at so many looks in a row. Learned preferences raise it by themselves: in the
# playground MaPO gained most from 50 answers where it was 1.2 to 1.5, and lost prompts above.
_WORSE, _PATIENCE = 1.25, 2
_CLIP = 1.0
# What a checkpoint holds that a training goes on from.
_STATE = {"step", "parameters", "optimizer", "past", "average", "reference", "looks", "best"}


class Training:
    """One stage at work; `train_lora` is its face.

    Args:
        settings: Settled.
        judge: Looks at held-out pairs; None without any.
        about: Which model and which pairs, as text.
        among: Processes that train together.
        later: Whether a stage came before this one: then the reference is the model as it is now.
        last: Whether no stage comes after.
        at_once: See `Gradients`. No part of what a training is known by: on a machine with less memory it goes on.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        parameters: Sequence[nn.Parameter],
        data: Prepared,
        judge: Judge | None,
        settings: TrainSettings,
        folder: Path,
        known: KnownOfPairs,
        about: str = "",
        among: Several | None = None,
        later: bool = False,
        last: bool = True,
        at_once: int | None = None,
    ) -> None:
        assert settings.steps and settings.check_every and settings.learning_rate
        self.denoiser, self.parameters, self.data, self.settings = denoiser, list(parameters), data, settings
        self.folder, self.about, self.judge, self.among = folder, about, judge, among or Several()
        self.later, self.last = later, last
        self.steps, self.check_every, self.rate = settings.steps, settings.check_every, settings.learning_rate
        self.optimizer = make_optimizer(settings.optimizer, self.parameters, self.rate, denoiser.device)
        self.looks: list[Judgement] = []
        self.best: tuple[Judgement, dict[str, Tensor]] | None = None
        self.done = 0
        self.past = PastSelves(self.parameters) if settings.loss == "adaptive_dpo" else None
        self.average = None if settings.ema is None else Kept(self.parameters)
        self.needs_reference = settings.loss not in REFERENCE_FREE
        self.own_reference = settings.full or later
        self.fixed: FixedNoise | None = None
        if settings.fixed_noise:
            one = settings.loss == "rpo"
            more = settings.fixed_noise, settings.seed, settings.caption_dropout, one
            self.fixed = FixedNoise(data, denoiser, *more)
        self.drawing = Drawing(data, denoiser, settings, self.among, self.fixed)
        self.gradients = Gradients(denoiser, settings, known, self.past, self.among, at_once)

    def run(self, on_step: Callable[[TrainingStep], None] | None, cancelled: Callable[[], bool] | None) -> Trained:
        """Go on from the checkpoint, if there is one, to the end."""
        self._begin(cancelled)
        # What ended early before has nothing more to do either.
        started, first, saved, stopped = time.monotonic(), self.done, time.monotonic(), self._worse()
        while self.done < self.steps and not stopped:
            if self.among.any(cancelled is not None and cancelled()):
                self._save()
                raise CancelledError("Training stopped. Start it again with the same name and settings to go on.")
            found = self._step(self.done)
            self.done += 1
            look = self._look() if self.done % self.check_every == 0 or self.done == self.steps else None
            stopped = self._worse()
            if on_step is not None and self.among.first:
                left = (time.monotonic() - started) / (self.done - first) * (self.steps - self.done)
                loss, margin = float(found.loss.mean()), float(found.margin.mean())
                on_step(TrainingStep(self.done, self.steps, loss, margin, found.accuracy, left, look))
            ended = self.done == self.steps or bool(stopped)
            if ended or self._due(time.monotonic() - saved):
                self._save(ended=ended)
                saved = time.monotonic()
        best = None if self.best is None else self.best[0]
        held_out = 0 if self.judge is None else len(self.judge)
        early = stopped if self.done < self.steps else ""
        return Trained(self._result(), self.settings, self.done, best, tuple(self.looks), early, held_out)

    def _due(self, seconds: float) -> bool:
        if self.settings.save_every is not None:
            return self.done % self.settings.save_every == 0
        return seconds > _SAVE_EVERY

    def _step(self, step: int) -> PairLoss:
        rising = max(1.0, (self.settings.warmup or 0.0) * self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * min(1.0, (step + 1) / rising)
        found = self._gradients(step)
        self.among.mean_gradients(self.parameters)
        norm = nn.utils.clip_grad_norm_(self.parameters, _CLIP)
        if not torch.isfinite(found.loss).all() or not torch.isfinite(norm):
            what = f"the loss is {float(found.loss.mean())} at step {step + 1}, its gradient {float(norm)}."
            if step == 0 and self.later:
                raise FineTuneError(
                    f"Cannot begin the stage {self.settings.loss}: {what} The stage before it ended with weights that "
                    f"give no numbers. Begin again from the first stage with a lower learning rate than {self.rate:g}, "
                    "or with --precision float32: on the command line with --anew."
                )
            if step == 0:  # nothing was changed yet, so no rate is to blame
                raise FineTuneError(
                    f"Cannot begin training: {what} The model itself, or its autoencoder, gives no numbers for these "
                    "pictures. Train with --precision float32, or take another file of the model."
                )
            raise FineTuneError(
                f"Cannot go on training: {what} The last checkpoint is safe. Train with a lower learning rate."
            )
        named_when_out_of_memory(
            "go on training",
            "Close what else uses it, or take --optimizer adafactor, which keeps less. The last checkpoint is safe.",
            self.optimizer.step,
        )
        if self.average is not None and self.settings.ema is not None:
            self.average.follow(self.settings.ema, step)
        if self.past is not None:
            self.past.follow(step)
        return found

    def _gradients(self, step: int) -> PairLoss:
        """Those of a step; where memory runs out, of half as many pairs at a time, from here on."""
        now = self.gradients.at_once or self.settings.batch or 1

        def added(at_once: int) -> PairLoss:
            self.optimizer.zero_grad(set_to_none=True)
            self.gradients.at_once = at_once
            return self.gradients.add(self.drawing.step(step))

        def refused(found: str) -> FineTuneError:
            return FineTuneError(
                f"Cannot go on training: memory ran out, {self.gradients.at_once} of a batch's pairs at a time "
                f"({found}); expected more of it. The last checkpoint is safe. Close what else uses it, or begin anew "
                "with smaller pictures (size)."
            )

        alone = self.among.count == 1  # of several processes, all would have to know
        return as_many_as_fit(added, now, refused, 1 if alone else now)[0]

    # -- judging, and what comes of it

    def _judged(self) -> contextlib.AbstractContextManager[None]:
        """The weights that count: the average where there is one."""
        return contextlib.nullcontext() if self.average is None else self.average.in_place()

    def _result(self) -> dict[str, Tensor]:
        if self.best is not None:
            return self.best[1]
        with self._judged():
            return state_of(self.denoiser.unet, self.settings.full)

    def _look(self) -> Judgement | None:
        if self.judge is None:
            return None
        with self._judged():
            look = self.among.told(self.judge.look(self.done) if self.among.first else None)
            assert isinstance(look, Judgement)
            self.looks.append(look)
            if self._is_best(look):
                self.best = look, state_of(self.denoiser.unet, self.settings.full)
        return look

    def _is_best(self, look: Judgement) -> bool:
        """Whether the newest of all looks is as good as any: within the standard error of the one with the least cost.

        A few pairs tell hardly any two looks apart. The least of their costs is then one by chance, and an early one
        has learned little: of looks as good as each other, the last is kept that is no worse at the chosen pictures.
        """
        if self.settings.loss == "sft" and not self.last:  # there for the chosen side alone
            return look.chosen_error <= min(one.chosen_error for one in self.looks)
        least = min(self.looks, key=lambda one: one.log_loss)
        return look is least or (look.log_loss <= least.log_loss + least.uncertainty and look.chosen_error <= _WORSE)

    def _worse(self) -> str:
        last = self.looks[-_PATIENCE:]
        full = len(last) == _PATIENCE and last[-1].step == self.done
        worse = full and all(look.chosen_error > _WORSE for look in last)
        return "the model got worse at the chosen pictures; what it was at its best is kept" if worse else ""

    # -- where it stands

    def _begin(self, cancelled: Callable[[], bool] | None) -> None:
        """Make the reference while the model is still what it was, then go on from the checkpoint."""
        saved = checkpoint_of(self.folder, self._identity(), _STATE)
        self.denoiser.frozen = None
        if self.needs_reference and self.fixed is not None:
            if saved is not None and saved.get("reference") is not None:
                self.fixed.errors = saved["reference"]
            else:
                reference = contextlib.nullcontext if self.own_reference else self.denoiser.reference
                together = self.gradients.at_once or self.settings.batch or 1
                self.fixed.measure(reference, together, self.among, cancelled)
                if saved is None:
                    self._save()
        elif self.needs_reference and self.own_reference:
            self.denoiser.frozen = Kept(self.parameters)
        if saved is not None:
            self._go_on(saved)

    def _identity(self) -> dict[str, Any]:
        return {**asdict(self.settings), "pairs": len(self.data), "about": self.about, "processes": self.among.count}

    def _save(self, ended: bool = False) -> None:
        if not self.among.first:
            return
        write_checkpoint(
            self.folder,
            {
                "step": self.done,
                "ended": ended,
                "settings": self._identity(),
                "parameters": [parameter.detach().cpu() for parameter in self.parameters],
                "optimizer": self.optimizer.state_dict(),
                "past": [] if self.past is None else [past.values for past in self.past.averages],
                "average": None if self.average is None else self.average.values,
                "reference": None if self.fixed is None else self.fixed.errors,
                "looks": [asdict(look) for look in self.looks],
                "best": None if self.best is None else {"look": asdict(self.best[0]), "state": self.best[1]},
            },
        )

    def _go_on(self, saved: dict[str, Any]) -> None:
        try:
            self._put_back(saved)
        # Fewer weights, another optimiser's state, a look with other numbers.
        except (KeyError, TypeError, ValueError) as error:
            raise of_another_version(self.folder) from error

    def _put_back(self, saved: dict[str, Any]) -> None:
        with torch.no_grad():
            for parameter, value in zip(self.parameters, saved["parameters"], strict=True):
                parameter.copy_(value)
        self.optimizer.load_state_dict(saved["optimizer"])
        if self.past is not None:
            for past, values in zip(self.past.averages, saved["past"], strict=True):
                past.put_back(values)
        if self.average is not None:
            self.average.put_back(saved["average"])
        self.looks = [Judgement(**look) for look in saved["looks"]]
        if saved["best"] is not None:
            self.best = Judgement(**saved["best"]["look"]), saved["best"]["state"]
        self.done = int(saved["step"])
