"""A model that a PPD is trained for, whichever family it is of: what reads answers for it, and what paints with it.

Shapes: C channels, h and w of the latents, T tokens, H width of the conditioning.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor

from ..encoders import ImageTextEncoder
from ..errors import PPDError, SteeringError
from ..finetune.noising import Noising, noising_of
from ..finetune.prepared import TOKENS, latents_of
from ..finetune.samples import Samples, write_sheet
from ..places import typed_path
from ..steering import TextConditioner
from ..steering.conditioning import Conditioning
from ..steering.pipelines import Loaded, load_pipeline, prompt_towers
from .denoisers import published_base

__all__ = [
    "Base",
    "Painter",
    "Painting",
    "Readers",
    "Sheets",
    "all_in",
    "load_base",
    "named_when_not_whole",
    "weights_in",
]


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


class Painter(Protocol):
    """Paints one picture of each of some prompts, with the denoiser in evaluation mode."""

    def paint(self, step: int, on_sample: Callable[[int, tuple[Path, ...]], None] | None) -> None:
        """Paint after so many steps, and tell of the files."""


@dataclass(frozen=True, eq=False)
class Painting:
    """What is to be painted.

    Attributes:
        prompts: Texts. said: Each as the denoiser takes it. nothing: The empty prompt likewise.
        size: Side in pixels. seed: The picture of prompt k has seed + k.
        folder: Pictures go into its folder `samples`.
        precision: Of forward passes.
    """

    prompts: Sequence[str]
    said: Sequence[Conditioning]
    nothing: Conditioning
    size: int
    seed: int
    folder: Path
    precision: torch.dtype


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
    from .base_dit import load_flux, load_sd3

    kind = _pipeline_kind(model)
    for start, load in (("StableCascade", load_cascade), ("StableDiffusion3", load_sd3), ("Flux", load_flux)):
        if kind.startswith(start):
            return load(model, kind, dtype)
    try:
        return StableDiffusion(model, dtype)
    except SteeringError as error:
        also = "A PPD can also be trained for a diffusers folder of Stable Cascade, SD3 or Flux."
        raise SteeringError(f"{error} {also}") from error


def _pipeline_kind(model: str | Path) -> str:
    """The class that a folder's model_index.json names; "" for what is no such folder."""
    import diffusers

    where = typed_path(model) if os.path.isdir(typed_path(model)) else str(model)
    if str(model) == "playground" or (where == str(model) and str(model).count("/") != 1):
        return ""
    try:
        return str(diffusers.DiffusionPipeline.load_config(str(where)).get("_class_name", ""))
    except Exception:  # diffusers raises many kinds; `load_pipeline` says better what is the matter
        return ""


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
        text, vae = self._text(device), self._loaded.pipeline.vae
        vae.float().to(device)  # in full precision: SDXL's overflows in half

        def said(prompt: str) -> Conditioning:
            found = text.plain(prompt)
            return replace(found, tokens=found.tokens[:, :TOKENS])

        return Readers(lambda picture: latents_of(vae, picture), said, encoder, size)

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


class Sheets:
    """Pictures of a family whose pipeline is told of prompts by what was read of them."""

    def __init__(self, painting: Painting, draw: Callable[[Conditioning, Conditioning, int], Image.Image]) -> None:
        """Take what is to be painted, and what paints one picture of (prompt, empty prompt, seed)."""
        self._painting, self._draw = painting, draw

    def paint(self, step: int, on_sample: Callable[[int, tuple[Path, ...]], None] | None) -> None:
        asked = self._painting

        def painted(numbers: Sequence[int]) -> list[Image.Image]:
            return [self._draw(asked.said[number], asked.nothing, asked.seed + number) for number in numbers]

        files = write_sheet(asked.folder, len(asked.said), step, painted)
        if on_sample is not None:
            on_sample(step, files)


@contextlib.contextmanager
def named_when_not_whole(model: str | Path, expected: str) -> Iterator[None]:
    """Name the model that doesn't load.

    Args:
        model: For people. expected: The pipeline's class.

    Raises:
        PPDError: diffusers or transformers raised something.
    """
    try:
        yield
    except Exception as error:  # they raise many kinds for what isn't whole
        raise PPDError(
            f"Cannot load the model {Path(model).name!r}: {error}; expected a whole {expected} as diffusers saves it. "
            "Get it again, or give another."
        ) from error


def weights_in(dtype: torch.dtype) -> dict[str, torch.dtype]:
    """What tells diffusers to load weights in a precision."""
    from diffusers.utils import deprecation_utils

    return {"dtype" if hasattr(deprecation_utils, "_resolve_dtype") else "torch_dtype": dtype}  # renamed about 0.40


def all_in(dtype: torch.dtype, parts: Iterable[Any]) -> None:
    """Convert the networks among some parts: transformers takes each file's own precision."""
    for part in parts:
        if isinstance(part, torch.nn.Module) and next(part.parameters()).dtype != dtype:
            part.to(dtype)
