"""The loop: from pairs that were made ready to a LoRA, for every loss alike.

Shapes: B pairs of a batch, N pairs in all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CancelledError, FineTuneError
from .annotators import PastSelves
from .checkpoint import only_training, read_checkpoint, write_checkpoint
from .judging import Judge, Judgement
from .lora import lora_of
from .losses import LOSSES, REFERENCE_FREE, PairErrors, PairLoss, contrast_weights
from .prepared import Batch, Prepared
from .settings import TrainSettings
from .step import Denoiser, draw_noise, seeded
from .told import Trained, TrainingStep

__all__ = ["train_lora"]

_SAVE_EVERY = 60.0  # seconds
_WORSE, _PATIENCE = 1.02, 2  # chosen error over the reference's, at so many looks in a row
_CLIP = 1.0


def train_lora(
    denoiser: Denoiser,
    parameters: Sequence[nn.Parameter],
    data: Prepared,
    held_out: Prepared | None,
    settings: TrainSettings,
    folder: Path,
    embeddings: tuple[Tensor, Tensor] | None = None,
    on_step: Callable[[TrainingStep], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    about: str = "",
) -> Trained:
    """Train a LoRA; a training of the same settings that was stopped in this folder goes on, to the bit.

    One that came to its end makes room for one of other settings or pairs.

    Args:
        denoiser: With a LoRA on it. parameters: As `add_lora` gave them.
        data: N pairs. held_out: Pairs to judge by, or None.
        settings: What is None in them is settled.
        folder: For the checkpoint.
        embeddings: (N, D) of the chosen and of the rejected images with their prompts, for `rpo`.
        on_step: Called after each step.
        cancelled: Asked before each; the checkpoint is kept.
        about: Which model and which pairs, as text, to know a training again by.

    Raises:
        CancelledError: `cancelled` said so.
        FineTuneError: another training is at work in this folder, or was stopped there that is not this one; NaN, or a
            full disk; the last checkpoint is safe.
    """
    settings = settings.settled(len(data))
    if settings.loss == "rpo" and embeddings is None:
        raise FineTuneError("Cannot train with rpo: found no embeddings of the pictures; choose an encoder.")
    with only_training(folder):
        training = _Training(denoiser, parameters, data, held_out, settings, folder, embeddings, about)
        return training.run(on_step, cancelled)


class _Training:
    """One training at work; `train_lora` is its face."""

    def __init__(
        self,
        denoiser: Denoiser,
        parameters: Sequence[nn.Parameter],
        data: Prepared,
        held_out: Prepared | None,
        settings: TrainSettings,
        folder: Path,
        embeddings: tuple[Tensor, Tensor] | None,
        about: str = "",
    ) -> None:
        assert settings.steps and settings.check_every and settings.beta is not None
        self.denoiser, self.parameters, self.data, self.settings = denoiser, list(parameters), data, settings
        self.folder, self.embeddings, self.about = folder, embeddings, about
        self.steps, self.check_every, self.beta = settings.steps, settings.check_every, settings.beta
        self.judge = None if held_out is None or not len(held_out) else Judge(denoiser, held_out, settings.seed)
        self.optimizer = torch.optim.AdamW(self.parameters, lr=settings.learning_rate or 1e-4, weight_decay=0.01)
        self.looks: list[Judgement] = []
        self.best: tuple[Judgement, dict[str, Tensor]] | None = None
        self.done = 0
        self.past = PastSelves(self.parameters) if settings.loss == "adaptive_dpo" else None

    def run(self, on_step: Callable[[TrainingStep], None] | None, cancelled: Callable[[], bool] | None) -> Trained:
        self._resume()
        # What ended early before has nothing more to do either.
        started, first, saved, stopped = time.monotonic(), self.done, time.monotonic(), self._worse()
        while self.done < self.steps and not stopped:
            if cancelled is not None and cancelled():
                self._save()
                raise CancelledError("Training stopped. Start it again with the same name and settings to go on.")
            found = self._step(self.done)
            self.done += 1
            look = self._look() if self.done % self.check_every == 0 or self.done == self.steps else None
            stopped = self._worse()
            if on_step is not None:
                left = (time.monotonic() - started) / (self.done - first) * (self.steps - self.done)
                loss, margin = float(found.loss.mean()), float(found.margin.mean())
                on_step(TrainingStep(self.done, self.steps, loss, margin, found.accuracy, left, look))
            if time.monotonic() - saved > _SAVE_EVERY or self.done == self.steps or stopped:
                self._save(ended=self.done == self.steps or bool(stopped))
                saved = time.monotonic()
        state = lora_of(self.denoiser.unet) if self.best is None else self.best[1]
        best = None if self.best is None else self.best[0]
        held_out = 0 if self.judge is None else len(self.judge)
        return Trained(state, self.settings, self.done, best, tuple(self.looks), stopped, held_out)

    # -- a step

    def _step(self, step: int) -> PairLoss:
        rng, generator = seeded(self.settings.seed, step)
        for group in self.optimizer.param_groups:
            group["lr"] = (self.settings.learning_rate or 1e-4) * min(1.0, (step + 1) / max(1, 0.05 * self.steps))
        self.optimizer.zero_grad(set_to_none=True)
        drawn = [self._drawn(rng, generator) for _ in range(self.settings.accumulate)]
        # A contrast goes over all pairs of the step, so all of them have one timestep.
        if self.settings.loss == "rpo":
            drawn = [(rows, batch, noise, drawn[0][3][:1].expand(len(rows))) for rows, batch, noise, _ in drawn]
        found = self._together(drawn) if self.settings.loss == "rpo" and len(drawn) > 1 else self._apart(drawn)
        if not torch.isfinite(found.loss).all():
            raise FineTuneError(
                f"Cannot go on training: the loss is {float(found.loss.mean())} at step {step + 1}. The last "
                "checkpoint is safe. Train with a lower learning rate."
            )
        nn.utils.clip_grad_norm_(self.parameters, _CLIP)
        self.optimizer.step()
        if self.past is not None:
            self.past.follow(step)
        return found

    def _drawn(self, rng: Any, generator: torch.Generator) -> tuple[list[int], Batch, Tensor, Tensor]:
        rows = self.data.draw(self.settings.batch or 1, rng)
        uncaptioned = [rng.random() < self.settings.caption_dropout for _ in rows]
        batch = self.data.batch(rows, self.denoiser.device, uncaptioned)
        return rows, batch, *draw_noise(batch, self.denoiser.noising.timesteps, generator, self.settings.loss == "rpo")

    def _apart(self, drawn: Sequence[tuple[list[int], Batch, Tensor, Tensor]]) -> PairLoss:
        """Each batch by itself; their mean gradient is that of one large batch."""
        found = []
        for rows, batch, noise, timesteps in drawn:
            errors = self.denoiser.errors(batch, noise, timesteps, self.settings.loss not in REFERENCE_FREE)
            past = [] if self.past is None else self.past.errors(self.denoiser, batch, noise, timesteps, errors)
            loss = self._loss(errors, rows, past)
            (loss.loss.mean() / len(drawn)).backward()  # type: ignore[no-untyped-call]
            found.append(loss)
        return PairLoss(torch.cat([one.loss.detach() for one in found]), torch.cat([one.margin for one in found]))

    def _together(self, drawn: Sequence[tuple[list[int], Batch, Tensor, Tensor]]) -> PairLoss:
        """One loss over all batches: first their errors, then the loss's gradient by each error, then the model's."""
        with torch.no_grad():
            parts = [self.denoiser.errors(batch, noise, timesteps, True) for _, batch, noise, timesteps in drawn]
        names = ("chosen", "rejected", "ref_chosen", "ref_rejected")
        values = [torch.cat([getattr(part, name) for part in parts]) for name in names]
        for value in values[:2]:
            value.requires_grad_()
        loss = self._loss(PairErrors(*values), [row for rows, *_ in drawn for row in rows], [])
        by_chosen, by_rejected = torch.autograd.grad(loss.loss.mean(), values[:2])
        start = 0
        for rows, batch, noise, timesteps in drawn:
            errors = self.denoiser.errors(batch, noise, timesteps, False)
            span = slice(start, start + len(rows))
            pulled = (errors.chosen * by_chosen[span]).sum() + (errors.rejected * by_rejected[span]).sum()
            pulled.backward()  # type: ignore[no-untyped-call]
            start += len(rows)
        return PairLoss(loss.loss.detach(), loss.margin)

    def _loss(self, errors: PairErrors, rows: Sequence[int], annotators: Sequence[PairErrors]) -> PairLoss:
        name, more = self.settings.loss, dict[str, Any]()
        if name in ("cdpo", "rdpo"):
            more["flip_rate"] = self.settings.flip_rate
        if name == "rpo" and self.embeddings is not None:
            chosen, rejected = (side[list(rows)].to(self.denoiser.device) for side in self.embeddings)
            more["weights"] = contrast_weights(chosen, rejected, self.settings.temperature)
        if name == "adaptive_dpo":
            more["annotators"] = annotators
        return LOSSES[name](errors, beta=self.beta, **more)

    # -- judging, and where it stands

    def _look(self) -> Judgement | None:
        if self.judge is None:
            return None
        look = self.judge.look(self.done)
        self.looks.append(look)
        if self.best is None or look.log_loss < self.best[0].log_loss:
            self.best = look, lora_of(self.denoiser.unet)
        return look

    def _worse(self) -> str:
        last = self.looks[-_PATIENCE:]
        full = len(last) == _PATIENCE and last[-1].step == self.done
        worse = full and all(look.chosen_error > _WORSE for look in last)
        return "the model got worse at the chosen pictures; what it was at its best is kept" if worse else ""

    def _identity(self) -> dict[str, Any]:
        return {**asdict(self.settings), "pairs": len(self.data), "about": self.about}

    def _save(self, ended: bool = False) -> None:
        write_checkpoint(
            self.folder,
            {
                "step": self.done,
                "ended": ended,
                "settings": self._identity(),
                "parameters": [parameter.detach().cpu() for parameter in self.parameters],
                "optimizer": self.optimizer.state_dict(),
                "past": [] if self.past is None else self.past.averages,
                "looks": [asdict(look) for look in self.looks],
                "best": None if self.best is None else {"look": asdict(self.best[0]), "state": self.best[1]},
            },
        )

    def _resume(self) -> None:
        saved = read_checkpoint(self.folder)
        if saved is None:
            return
        if saved["settings"] != self._identity():
            if saved.get("ended"):
                return
            raise FineTuneError(
                f"Cannot go on with the training in {self.folder}: it was begun with another model, other settings "
                "or other pairs, and stopped. Choose another name, or delete it."
            )
        with torch.no_grad():
            for parameter, value in zip(self.parameters, saved["parameters"], strict=True):
                parameter.copy_(value)
        self.optimizer.load_state_dict(saved["optimizer"])
        if self.past is not None:
            self.past.averages = [[value.to(self.denoiser.device) for value in past] for past in saved["past"]]
        self.looks = [Judgement(**look) for look in saved["looks"]]
        if saved["best"] is not None:
            self.best = Judgement(**saved["best"]["look"]), saved["best"]["state"]
        self.done = int(saved["step"])
