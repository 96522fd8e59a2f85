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

_HANGING_TOGETHER = ("kto", "rpo", "adaptive_dpo")  # losses whose pairs look at each other


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
    """Adds a step's gradients to the parameters.

    Attributes:
        at_once: How many pairs this process has in one forward pass at most; None: a whole batch. It changes memory,
            and gradients by rounding alone.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        settings: TrainSettings,
        known: KnownOfPairs,
        past: PastSelves | None,
        among: Several,
        at_once: int | None = None,
    ) -> None:
        assert settings.beta is not None
        self.at_once = at_once
        self._denoiser, self._settings, self._beta = denoiser, settings, settings.beta
        self._known, self._past, self._among = known, past, among
        self._needs_reference = settings.loss not in REFERENCE_FREE
        self._variant = settings.variant

    def add(self, drawn: Sequence[Draw]) -> PairLoss:
        """Add the gradient of the mean loss; the loss is (B,) over all batches, without gradient."""
        groups = [list(drawn)] if self._settings.loss == "rpo" else [[draw] for draw in drawn]
        found = [one for group in groups for one in self._group(group, 1.0 / len(groups))]
        return PairLoss(torch.cat([one.loss.detach() for one in found]), torch.cat([one.margin for one in found]))

    def _group(self, drawn: Sequence[Draw], share: float) -> list[PairLoss]:
        """Batches whose loss is one: in parts, of which memory holds one at a time."""
        parts = [part for draw in drawn for part in draw.parts(self.at_once or len(draw.noise))]
        if len(parts) > 1 and self._settings.loss in _HANGING_TOGETHER:
            return [self._together(parts, share)]
        pairs = sum(len(part.noise) for part in parts)
        return [self._apart(part, share * len(part.noise) / pairs) for part in parts]

    def _apart(self, draw: Draw, share: float) -> PairLoss:
        """One part by itself: the gradients of all add up to that of their mean."""
        errors = self._errors(draw)
        past = self._past_errors(draw, errors)
        loss = self._loss(self._of_all(errors), draw.rows, [self._of_all(one) for one in past])
        # Of the others' errors no gradient comes here, and the mean over processes divides by their number.
        (loss.loss.mean() * self._among.count * share).backward()  # type: ignore[no-untyped-call]
        return loss

    def _together(self, parts: Sequence[Draw], share: float) -> PairLoss:
        """One loss over all parts: first their errors, then the loss's gradient by each error, then the model's."""
        with torch.no_grad():
            own = [self._errors(part) for part in parts]
            past = [self._past_errors(part, errors) for part, errors in zip(parts, own, strict=True)]
        whole = PairErrors.joined([self._of_all(errors) for errors in own])
        annotators = [PairErrors.joined([self._of_all(one) for one in several]) for several in zip(*past, strict=True)]
        for value in (whole.chosen, whole.rejected):
            value.requires_grad_()
        loss = self._loss(whole, [row for part in parts for row in part.rows], annotators)
        by_chosen, by_rejected = torch.autograd.grad(
            loss.loss.mean() * self._among.count * share, (whole.chosen, whole.rejected)
        )
        start = 0
        for part in parts:
            each = len(part.noise)
            errors = self._denoiser.errors(part.batch, part.noise, part.timesteps, False)
            mine = slice(start + self._among.index * each, start + (self._among.index + 1) * each)
            pulled = (errors.chosen * by_chosen[mine]).sum() + (errors.rejected * by_rejected[mine]).sum()
            pulled.backward()  # type: ignore[no-untyped-call]
            start += each * self._among.count
        return loss

    def _past_errors(self, draw: Draw, errors: PairErrors) -> list[PairErrors]:
        """What Adaptive-DPO's other annotators make of a part."""
        if self._past is None:
            return []
        return self._past.errors(self._denoiser, draw.batch, draw.noise, draw.timesteps, errors)

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
