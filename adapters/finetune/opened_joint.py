"""SD3 and Flux as a training takes them: text encoders and autoencoder read, then the transformer is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from ..errors import FineTuneError
from ..steering.conditioning import Conditioning
from ..steering.joint import SIDE, SIDES, JointModel
from .frozen import forget_inputs, hold_in_bytes
from .lora import add_lora
from .noising import noising_of
from .pairs import LabelledPair
from .prepared import Prepared, prepare
from .samples import Painter, Painting, Sheets
from .settings import TrainSettings
from .shelf import Shelf
from .sparing import spare_memory
from .step import Denoiser
from .weights import all_parameters

__all__ = ["OpenedJoint", "placed", "trained_of"]


def placed(denoiser: Any, settings: TrainSettings, device: torch.device) -> Any:
    """Put a denoiser where it will be trained, its weights held as the settings say."""
    if settings.frozen:
        hold_in_bytes(denoiser)  # here already: it may fit there only so
    return denoiser.to(device)


def trained_of(denoiser: Any, settings: TrainSettings, pairs: int) -> list[torch.nn.Parameter]:
    """Put a LoRA on a denoiser, or have all its weights trained, as the settings say; return what is trained."""
    if settings.full:
        parameters = all_parameters(denoiser)
    else:
        parameters = add_lora(denoiser, settings.settled(pairs).rank or 4, settings.seed)
    if settings.checkpointing:
        spare_memory(denoiser)
    forget_inputs(denoiser)
    return parameters


class OpenedJoint:
    """Stable Diffusion 3, 3.5 or FLUX.1; see `Opened`.

    Args:
        model: On the CPU.
        size: Of the pictures in pixels; None is the model's own.
        device: Where it is trained. precision: Of forward passes.

    Raises:
        FineTuneError: a size that its patches don't fit.
    """

    def __init__(self, model: JointModel, size: int | None, device: torch.device, precision: torch.dtype) -> None:
        self._model, self._size, self._device, self._precision = model, size or SIDE, device, precision
        if self._size % SIDES:
            raise FineTuneError(
                f"Cannot train at {self._size} pixels: this model takes sides that are multiples of {SIDES}. Give "
                f"--size {max(SIDES, self._size // SIDES * SIDES)}."
            )

    @property
    def family(self) -> str:
        return self._model.release

    @property
    def name(self) -> str:
        return self._model.name

    @property
    def config(self) -> Any:
        return self._model.config

    def plain(self, prompt: str) -> Conditioning:
        """What `prepare` has prompts read by."""
        return self._model.said(prompt, self._device)

    def prepared(
        self,
        pairs: Sequence[LabelledPair],
        told: Callable[[int, int], None] | None,
        cancelled: Callable[[], bool] | None,
        mirror: bool,
        shelf: Shelf,
    ) -> Prepared:
        vae, step = self._model.pipeline.vae.to(self._device, torch.float32), 64 if self._size >= 256 else SIDES
        return prepare(pairs, vae, self, self._size, step, told, cancelled, mirror, shelf)

    def painter(self, prompts: Sequence[str], seed: int, folder: Path) -> Painter:
        said = [self.plain(prompt) for prompt in (*prompts, "")] if prompts else []
        size, precision, model = self._size, self._precision, self._model
        painting = Painting(prompts, said[:-1], said[-1] if said else Conditioning(torch.empty(0)), size, seed, folder,
                            precision)  # fmt: skip
        return Sheets(painting, lambda said, nothing, seed: model.drawn(said, nothing, seed, size, precision))

    def denoiser(self, settings: TrainSettings, pairs: int) -> tuple[Denoiser, list[torch.nn.Parameter]]:
        self._model.has_read()
        transformer = placed(self._model.denoiser, settings, self._device)
        noising = noising_of(self._model.pipeline.scheduler, (self._size // SIDES) ** 2)
        return Denoiser(transformer, noising, self._device, self._precision), trained_of(transformer, settings, pairs)
