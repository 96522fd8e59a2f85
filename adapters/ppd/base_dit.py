"""Stable Diffusion 3 and Flux as bases of a PPD: their pipelines read prompts and pictures, and paint."""

from __future__ import annotations

import torch

from ..encoders import ImageTextEncoder
from ..errors import PPDError
from ..finetune.noising import noising_of
from ..finetune.prepared import latents_of
from ..finetune.samples import Painter, Painting, Sheets
from ..steering.joint import SIDE, SIDES, JointModel
from .base import Readers

__all__ = ["DiffusionTransformer"]


class DiffusionTransformer:
    """Either of the two.

    Attributes:
        name: "custom": neither is a base by name; the layers say what a file fits.
        model: With its pipeline. denoiser: diffusers' SD3Transformer2DModel or FluxTransformer2DModel.
        noising: Flow matching, along the scheduler's own shift where that is fixed. size, clip: As `Base` has them.
    """

    name, size, clip = "custom", SIDE, None

    def __init__(self, model: JointModel) -> None:
        self.model = model
        self.denoiser, self.noising = model.denoiser, noising_of(model.pipeline.scheduler)

    def readers(self, encoder: ImageTextEncoder, size: int, device: torch.device) -> Readers:
        if size % SIDES:
            raise PPDError(f"Cannot train at {size} pixels: this model takes sides that are multiples of {SIDES}.")
        vae = self.model.pipeline.vae
        # Each goes to the device when it has something to read: a training that goes on has read all of it.
        return Readers(
            lambda picture: latents_of(vae.to(device), picture),
            lambda prompt: self.model.said(prompt, device),
            encoder,
            size,
        )

    def has_read(self) -> None:
        self.model.has_read()

    def painter(self, painting: Painting) -> Painter:
        size, precision = painting.size, painting.precision
        return Sheets(painting, lambda said, nothing, seed: self.model.drawn(said, nothing, seed, size, precision))
