"""A model as a training takes it: its parts by turns on the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

import torch

from ..steering import TextConditioner
from ..steering.joint import is_joint, load_joint
from ..steering.joint_files import JointFiles
from ..steering.joint_single import load_joint_files
from ..steering.pipelines import load_pipeline, pipeline_kind, prompt_towers
from .frozen import hold_in_bytes
from .noising import noising_of
from .opened_joint import OpenedJoint, placed, trained_of
from .pairs import LabelledPair
from .prepared import FirstChunk, Prepared, prepare
from .samples import Painter, Samples
from .settings import TrainSettings
from .shelf import Shelf
from .step import Denoiser

__all__ = ["Opened", "open_model"]


class Opened(Protocol):
    """A model whose parts take turns on the device: the text side and the autoencoder first, then the denoiser."""

    @property
    def family(self) -> str:
        """As `save_lora` takes it."""

    @property
    def name(self) -> str:
        """For people."""

    @property
    def config(self) -> Any:
        """Of the denoiser."""

    def prepared(
        self,
        pairs: Sequence[LabelledPair],
        told: Callable[[int, int], None] | None,
        cancelled: Callable[[], bool] | None,
        mirror: bool,
        shelf: Shelf,
    ) -> Prepared:
        """Make pairs ready, as `prepare` does."""

    def painter(self, prompts: Sequence[str], seed: int, folder: Path) -> Painter:
        """What paints one picture of each prompt into the training's folder, at the size of the training."""

    def denoiser(self, settings: TrainSettings, pairs: int) -> tuple[Denoiser, list[torch.nn.Parameter]]:
        """The denoiser on the device, and what is trained of it; nothing is read or told to it any more."""


def open_model(model: str | PathLike[str], settings: TrainSettings, device: torch.device) -> Opened:
    """Load a model onto the CPU.

    Args:
        model: As `Generator` takes it; or of SD3 or Flux a diffusers folder, a name on the hub, or `JointFiles`.
        settings: size, precision and frozen. device: Where it will be trained.

    Raises:
        FineTuneError: a size that it can't be trained at. SteeringError: there is no such model, or it isn't whole.
    """
    precision = torch.bfloat16 if settings.precision == "bfloat16" else torch.float32
    if isinstance(model, JointFiles):
        found = load_joint_files(model, precision, hold_in_bytes if settings.frozen else None)
        return OpenedJoint(found, settings.size, device, precision)
    model = str(model)
    kind = pipeline_kind(model)
    if is_joint(kind):
        return OpenedJoint(load_joint(model, kind, precision), settings.size, device, precision)
    loaded = load_pipeline(model, precision)
    zeros = bool(loaded.pipeline.config.get("force_zeros_for_empty_prompt", False))
    text = TextConditioner(prompt_towers(loaded.pipeline), zero_negative=zeros)
    look = replace(loaded.defaults, size=settings.size or loaded.defaults.size)
    return OpenedUNet(loaded.pipeline, text, look, loaded.family, loaded.name, device, precision)


@dataclass(frozen=True, eq=False)
class OpenedUNet:
    """Stable Diffusion 1.x, 2.x and XL, and the playground.

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

    @property
    def config(self) -> Any:
        return self.pipeline.unet.config

    def prepared(
        self,
        pairs: Sequence[LabelledPair],
        told: Callable[[int, int], None] | None,
        cancelled: Callable[[], bool] | None,
        mirror: bool,
        shelf: Shelf,
    ) -> Prepared:
        # The autoencoder in full precision: SDXL's overflows in half, and it is at work only once.
        self.pipeline.vae.to(self.device, torch.float32)
        step, text = 64 if self.look.size >= 256 else 8, FirstChunk(self.text)
        return prepare(pairs, self.pipeline.vae, text, self.look.size, step, told, cancelled, mirror, shelf)

    def painter(self, prompts: Sequence[str], seed: int, folder: Path) -> Painter:
        return Samples(self.pipeline, self.text, self.look, prompts, seed, folder, self.precision)

    def denoiser(self, settings: TrainSettings, pairs: int) -> tuple[Denoiser, list[torch.nn.Parameter]]:
        self.pipeline.vae.to("cpu")
        unet = placed(self.pipeline.unet, settings, self.device)
        parameters = trained_of(unet, settings, pairs)
        return Denoiser(unet, noising_of(self.pipeline.scheduler), self.device, self.precision), parameters
