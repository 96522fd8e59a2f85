"""A model that a PPD is trained for, whichever family it is of: what reads answers for it, and what paints with it.

Shapes: C channels, h and w of the latents, T tokens, H width of the conditioning.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor

from ..encoders import ImageTextEncoder
from ..errors import SteeringError
from ..finetune.noising import Noising, noising_of
from ..finetune.prepared import FirstChunk, latents_of
from ..finetune.samples import Painter, Painting, Samples
from ..steering import TextConditioner
from ..steering.conditioning import Conditioning
from ..steering.joint import is_joint, load_joint
from ..steering.pipelines import Loaded, load_pipeline, pipeline_kind, prompt_towers
from .denoisers import published_base

__all__ = ["Base", "Readers", "load_base"]


@dataclass(frozen=True, eq=False)
class Readers:
    """What turns pictures and prompts into numbers.

    Attributes:
        latents: Of a picture of `size` x `size` pixels, (C, h, w) as the denoiser takes them, on the CPU.
        text: Of a prompt; always as many tokens.
        encoder: Of the image vectors.
        size: Side of the pictures in pixels.
    """

    latents: Callable[[Image.Image], Tensor]
    text: Callable[[str], Conditioning]
    encoder: ImageTextEncoder
    size: int


class Base(Protocol):
    """A model with its pipeline's other parts, on the CPU at first.

    Attributes:
        name: One of `BASES`.
        denoiser: What is trained with people in it. noising: How it was trained.
        size: Side of its own pictures in pixels.
        clip: What `load_encoder` takes for the CLIP that came with it, or None.
    """

    @property
    def name(self) -> str: ...

    @property
    def denoiser(self) -> Any: ...

    @property
    def noising(self) -> Noising: ...

    @property
    def size(self) -> int: ...

    @property
    def clip(self) -> str | None: ...

    def readers(self, encoder: ImageTextEncoder, size: int, device: torch.device) -> Readers:
        """Put what reads on the device."""
        ...

    def has_read(self) -> None:
        """Make room: nothing will be read any more."""
        ...

    def painter(self, painting: Painting) -> Painter:
        """What paints.

        Raises:
            PPDError: a part is missing that makes pictures of what the denoiser gives.
        """
        ...


def load_base(model: str | Path, dtype: torch.dtype) -> Base:
    """Load a model onto the CPU.

    Args:
        model: As `Generator` takes it; or a diffusers folder, or a name on the hub, of Stable Cascade, SD3 or Flux.
        dtype: Of its weights.

    Raises:
        PPDError, SteeringError: there is nothing, or no such model; it says what was found.
    """
    from .base_cascade import load_cascade
    from .base_dit import DiffusionTransformer

    kind = pipeline_kind(model)
    if kind.startswith("StableCascade"):
        return load_cascade(model, kind, dtype)
    if is_joint(kind):
        return DiffusionTransformer(load_joint(model, kind, dtype))
    try:
        return StableDiffusion(model, dtype)
    except SteeringError as error:
        also = "A PPD can also be trained for a diffusers folder of Stable Cascade, SD3 or Flux."
        raise SteeringError(f"{error} {also}") from error


class StableDiffusion:
    """Stable Diffusion 1.x, 2.x and XL, and the playground."""

    def __init__(self, model: str | Path, dtype: torch.dtype) -> None:
        """Load it; raises SteeringError."""
        self._loaded: Loaded = load_pipeline(model, dtype)
        pipeline = self._loaded.pipeline
        self.denoiser, self.noising = pipeline.unet, noising_of(pipeline.scheduler)
        self.name = "playground" if str(model) == "playground" else published_base(self.denoiser)
        self.size, self.clip = self._loaded.defaults.size, self._loaded.clip

    def readers(self, encoder: ImageTextEncoder, size: int, device: torch.device) -> Readers:
        text, vae = FirstChunk(self._text(device)), self._loaded.pipeline.vae
        vae.float().to(device)  # in full precision: SDXL's overflows in half
        return Readers(lambda picture: latents_of(vae, picture), text.plain, encoder, size)

    def has_read(self) -> None:
        self._loaded.pipeline.vae.to("cpu")

    def painter(self, painting: Painting) -> Painter:
        look = replace(self._loaded.defaults, size=painting.size)
        more = painting.prompts, painting.seed, painting.folder, painting.precision
        return Samples(self._loaded.pipeline, self._text(None), look, *more)

    def _text(self, device: torch.device | None) -> TextConditioner:
        pipeline = self._loaded.pipeline
        zeros = bool(pipeline.config.get("force_zeros_for_empty_prompt", False))
        return TextConditioner(prompt_towers(pipeline), zero_negative=zeros, device=device)
