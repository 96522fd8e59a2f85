"""A model as a training takes it: its parts by turns on the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..steering import TextConditioner
from ..steering.pipelines import load_pipeline, prompt_towers
from .lora import add_lora
from .noising import noising_of
from .pairs import LabelledPair
from .prepared import Prepared, prepare
from .settings import TrainSettings
from .shelf import Shelf
from .step import Denoiser
from .weights import all_parameters

__all__ = ["Opened"]


@dataclass(frozen=True, eq=False)
class Opened:
    """A model whose parts take turns on the device: the text side and the autoencoder first, then the denoiser.

    Attributes:
        pipeline: diffusers'. text: Its text side. look: How it paints, at the size of the training.
        family, name: Of the model.
        device: Where it is trained. precision: Of forward passes.
    """

    pipeline: Any
    text: TextConditioner
    look: Any
    family: str
    name: str
    device: torch.device
    precision: torch.dtype

    @staticmethod
    def of(model: str | Path, settings: TrainSettings, device: torch.device) -> Opened:
        """Load it."""
        precision = torch.bfloat16 if settings.precision == "bfloat16" else torch.float32
        loaded = load_pipeline(model, precision)
        zeros = bool(loaded.pipeline.config.get("force_zeros_for_empty_prompt", False))
        text = TextConditioner(prompt_towers(loaded.pipeline), zero_negative=zeros)
        look = replace(loaded.defaults, size=settings.size or loaded.defaults.size)
        return Opened(loaded.pipeline, text, look, loaded.family, loaded.name, device, precision)

    def prepared(
        self,
        pairs: Sequence[LabelledPair],
        told: Callable[[int, int], None] | None,
        cancelled: Callable[[], bool] | None,
        mirror: bool,
        shelf: Shelf,
    ) -> Prepared:
        """Make pairs ready, as `prepare` does."""
        # The autoencoder in full precision: SDXL's overflows in half, and it is at work only once.
        self.pipeline.vae.to(self.device, torch.float32)
        step = 64 if self.look.size >= 256 else 8
        return prepare(pairs, self.pipeline.vae, self.text, self.look.size, step, told, cancelled, mirror, shelf)

    def denoiser(self, settings: TrainSettings, pairs: int) -> tuple[Denoiser, list[torch.nn.Parameter]]:
        """The denoiser on the device, and what is trained of it."""
        self.pipeline.vae.to("cpu")
        unet = self.pipeline.unet.to(self.device)
        if settings.full:
            parameters = all_parameters(unet)
        else:
            parameters = add_lora(unet, settings.settled(pairs).rank or 4, settings.seed)
        if settings.checkpointing:
            unet.enable_gradient_checkpointing()
        return Denoiser(unet, noising_of(self.pipeline.scheduler), self.device, self.precision), parameters
