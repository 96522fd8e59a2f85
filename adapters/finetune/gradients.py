"""A loss over the batches of a step, and its gradient in the model's parameters.

Shapes: B pairs of a batch, over all processes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .annotators import PastSelves
from .drawing import Draw
from .losses import LOSSES, REFERENCE_FREE, PairErrors, PairLoss, contrast_weights
from .settings import TrainSettings
from .several import Several
from .step import Denoiser

__all__ = ["Gradients", "KnownOfPairs"]


@dataclass(frozen=True, eq=False)
class KnownOfPairs:
    """What is known of the N pairs beside their latents, and who wants to know more.

    Attributes:
        embeddings: (N, D) of the chosen and of the rejected images with their prompts, for `rpo`.
        doubts: (N,) how probable it is that a pair's answer is mistaken, in [0, 1]: `cdpo`'s flip rates.
        watch: Called with each batch's pairs, their errors, and what Adaptive-DPO's annotators make of them.
    """

    embeddings: tuple[Tensor, Tensor] | None = None
    doubts: Tensor | None = None
    watch: Callable[[Sequence[int], PairErrors, Sequence[PairErrors]], None] | None = None


class Gradients:
    """Adds a step's gradients to the parameters."""

    def __init__(
        self,
        denoiser: Denoiser,
        settings: TrainSettings,
        known: KnownOfPairs,
        past: PastSelves | None,
        among: Several,
    ) -> None:
        assert settings.beta is not None
        self._denoiser, self._settings, self._beta = denoiser, settings, settings.beta
        self._known, self._past, self._among = known, past, among
        self._needs_reference = settings.loss not in REFERENCE_FREE
        self._variant = settings.variant

    def add(self, drawn: Sequence[Draw]) -> PairLoss:
        """Add the gradient of the mean loss; the loss is (B,) over all batches, without gradient."""
        return self.together(drawn) if self._settings.loss == "rpo" and len(drawn) > 1 else self.apart(drawn)

    def apart(self, drawn: Sequence[Draw]) -> PairLoss:
        """Each batch by itself; their mean gradient is that of one large batch."""
        found = []
        for draw in drawn:
            errors = self._errors(draw)
            past: list[PairErrors] = []
            if self._past is not None:
                past = self._past.errors(self._denoiser, draw.batch, draw.noise, draw.timesteps, errors)
            loss = self._loss(self._of_all(errors), draw.rows, [self._of_all(one) for one in past])
            # Of the others' errors no gradient comes here, and the mean over processes divides by their number.
            (loss.loss.mean() * self._among.count / len(drawn)).backward()  # type: ignore[no-untyped-call]
            found.append(loss)
        return PairLoss(torch.cat([one.loss.detach() for one in found]), torch.cat([one.margin for one in found]))

    def together(self, drawn: Sequence[Draw]) -> PairLoss:
        """One loss over all batches: first their errors, then the loss's gradient by each error, then the model's."""
        with torch.no_grad():
            parts = [self._of_all(self._errors(draw)) for draw in drawn]
        names = ("chosen", "rejected", "ref_chosen", "ref_rejected")
        values = [torch.cat([getattr(part, name) for part in parts]) for name in names]
        for value in values[:2]:
            value.requires_grad_()
        loss = self._loss(PairErrors(*values), [row for draw in drawn for row in draw.rows], [])
        by_chosen, by_rejected = torch.autograd.grad(loss.loss.mean() * self._among.count, values[:2])
        start = 0
        for draw in drawn:
            each = len(draw.noise)
            errors = self._denoiser.errors(draw.batch, draw.noise, draw.timesteps, False)
            mine = slice(start + self._among.index * each, start + (self._among.index + 1) * each)
            pulled = (errors.chosen * by_chosen[mine]).sum() + (errors.rejected * by_rejected[mine]).sum()
            pulled.backward()  # type: ignore[no-untyped-call]
            start += each * self._among.count
        return PairLoss(loss.loss.detach(), loss.margin)

    def _errors(self, draw: Draw) -> PairErrors:
        """The model's, and the reference's where the loss needs them."""
        asked = self._needs_reference and draw.reference is None
        errors = self._denoiser.errors(draw.batch, draw.noise, draw.timesteps, asked)
        if draw.reference is None or not self._needs_reference:
            return errors
        return PairErrors(errors.chosen, errors.rejected, *draw.reference)

    def _of_all(self, errors: PairErrors) -> PairErrors:
        """Those of all processes, in their order."""
        if self._among.count == 1:
            return errors
        found: dict[str, Any] = {
            name: None if value is None else self._among.gathered(value) for name, value in vars(errors).items()
        }
        return PairErrors(**found)

    def _loss(self, errors: PairErrors, rows: Sequence[int], annotators: Sequence[PairErrors]) -> PairLoss:
        name, more, known = self._settings.loss, dict[str, Any](), self._known
        if known.watch is not None:
            known.watch(rows, errors, annotators)
        if name in ("cdpo", "rdpo"):
            more["flip_rate"] = self._settings.flip_rate
        if name == "cdpo" and known.doubts is not None:
            more["flip_rate"] = known.doubts[list(rows)].to(self._denoiser.device)
        if name == "rpo" and known.embeddings is not None:
            chosen, rejected = (side[list(rows)].to(self._denoiser.device) for side in known.embeddings)
            more["weights"] = contrast_weights(chosen, rejected, self._settings.temperature)
        if name == "adaptive_dpo":
            more["annotators"] = annotators
            more["released"] = self._variant == "released"
        if name == "mapo" and self._variant:
            more["variant"] = self._variant
        return LOSSES[name](errors, beta=self._beta, **more)
