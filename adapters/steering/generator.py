"""Pictures from a diffusers pipeline, plain, moved along a taste or for a user; the same seed, the same picture."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ..encoders import ImageTextEncoder
from ..ppd.layers import layers_of, width_of
from ..ppd.model import PPD
from ..ppd.user import User
from .acting import Acting, acting
from .conditioning import Conditioning
from .matching import Tastes
from .objective import taste_key
from .pipelines import load_pipeline
from .placement import chosen_offload, named_when_out_of_memory, place
from .sampling import Look, Progress, sample
from .settings import Movement, SteeringSettings
from .text_side import Encoders, listed, steered_pair, text_side

__all__ = ["Generator"]

KEPT, KEPT_PIXELS = 256, 256 * 512 * 512  # pictures, and theirs together: 200 MB


@dataclass(frozen=True)
class _Order:
    """What `Generator.images` was asked for, without the seeds; `steered` is None where nothing is to be moved."""

    prompt: str
    negative_prompt: str
    steered: Tastes | None
    settings: SteeringSettings
    look: Look
    at_work: Acting | None

    @property
    def key(self) -> tuple[Any, ...]:
        """What a picture depends on beside its seed and the text side."""
        along = () if self.steered is None else (*sorted(map(taste_key, listed(self.steered))), self.settings)
        user = () if self.at_work is None else self.at_work.key
        return (self.prompt, self.negative_prompt, self.look, along, user)


class Generator:
    """A Stable Diffusion 1.x, 2.x or XL pipeline that can follow a taste, and a user of a PPD.

    Attributes:
        name: Of the model, as asked for.
        family: "sd15" (one text encoder, the playground's, too) or "sdxl" (two).
        defaults: Its sampling settings.
        offload: How its weights are placed: "none", "model" or "sequential".
        conditioner: Its text side; `conditioner.encoders` are what tastes must have been learned with.
        ppd: What users must have been made with, or None; set by `use_ppd`.
    """

    def __init__(
        self,
        model: str | Path = "playground",
        device: str | torch.device = "cpu",
        encoder: Encoders | None = None,
        offload: str = "auto",
    ) -> None:
        """Load a pipeline.

        Args:
            model: "playground", a diffusers pipeline folder, a single-file checkpoint (`.safetensors`) of SD1.5 or
                SDXL, or a pipeline's name on the hub (offline: from its cache).
            device: Where it computes; on "cuda" in float16.
            encoder: The CLIP that the model's text encoder belongs to, or what `load_encoder` takes; for SDXL also
                both, in any order. None takes the one in the folder's `clip/`, if there is one; without, it generates
                and steers only by tastes from files, which carry their text side.
            offload: What of the weights waits outside the GPU: "none" of them; "model", all but the part at work;
                "sequential", all but the layer at work, slow. "auto" takes the first that the GPU has room for.

        Raises:
            EncoderMismatchError: the encoder is not that of any of the model's text encoders.
            OutOfMemoryError: it doesn't fit.
            SteeringError: there is no such pipeline, or it isn't like Stable Diffusion's.
        """
        self.device = torch.device(device)
        loaded = load_pipeline(model, torch.float16 if self.device.type == "cuda" else torch.float32)
        self.name, self.family, self.defaults = loaded.name, loaded.family, loaded.defaults
        self._pipeline = loaded.pipeline
        self.offload = chosen_offload(offload, self._pipeline, self.family, self.device)
        own = self.offload == "none"
        given, home = encoder if encoder is not None else loaded.clip, self.device if own else torch.device("cpu")
        # Before the weights are placed: offloading takes the text encoders out of the pipeline.
        self.conditioner = text_side(self._pipeline, given, home, None if own else self.device)
        named_when_out_of_memory(
            f"load the model {self.name!r}",
            "Choose offload 'model' or 'sequential'.",
            partial(place, self._pipeline, self.offload, self.device),
        )
        self.ppd: PPD | None = None
        self._pictures: OrderedDict[tuple[Any, ...], Image.Image] = OrderedDict()
        self._lock = threading.RLock()

    @property
    def encoder(self) -> ImageTextEncoder | None:
        """The CLIP that text and tastes meet in, the first of several, or None."""
        return self.conditioner.encoder

    @property
    def encoders(self) -> dict[str, ImageTextEncoder]:
        """All CLIPs by the text tower that they belong to, "clip_l" or "clip_g"."""
        return self.conditioner.encoders

    def use_ppd(self, ppd: PPD | None) -> None:
        """Take a PPD, so that pictures can be made for its users; None takes it away.

        Raises:
            PPDError: it was trained for another model.
        """
        if ppd is not None:
            unet = self._pipeline.unet
            ppd.fits(layers_of(unet), width_of(unet))
        self.ppd = ppd

    def images(
        self,
        prompt: str,
        seeds: Sequence[int],
        taste: Tastes | None = None,
        strength: float | None = None,
        negative_prompt: str = "",
        steps: int | None = None,
        guidance: float | None = None,
        size: int | tuple[int, int] | None = None,
        settings: SteeringSettings | None = None,
        on_step: Callable[[int, int], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
        user: User | None = None,
        user_strength: float = 1.0,
        user_start: float = 0.0,
        user_end: float = 1.0,
    ) -> list[Image.Image]:
        """Generate one picture per seed; a seed gives the same picture whatever the others are.

        Args:
            prompt: Of any length; brackets and weights such as (word:1.2) are plain text.
            seeds: 0 to 2^64 - 1 each; noise is drawn on the CPU, so that devices agree on it.
            taste: None, or strength 0, generates plainly. For SDXL also one for each of its text encoders.
            strength: Replaces the one in `settings`; 0 to 2.
            negative_prompt: Never moved; empty ones are what the model was trained with.
            steps: Denoising steps, >= 1; None takes the model's default, and so on.
            guidance: Guidance scale; 1 or less is off.
            size: Pixels, or (width, height), multiples of 8.
            settings: How to steer.
            on_step: Called with (steps done, all steps), those of steering and of all pictures together.
            cancelled: Asked at every step.
            user: For whom, made with `ppd`; None, or user_strength 0, is the plain model.
            user_strength: -5 to 5; 1 as trained, below 0 leads away from the person.
            user_start, user_end: Part of the schedule where the user acts, in [0, 1].

        Returns:
            RGB pictures in the order of the seeds. Pictures made before are given again from memory.

        Raises:
            CancelledError: `cancelled` said so.
            EncoderMismatchError: the taste was learned with another encoder.
            OutOfMemoryError: memory ran out; pictures made before are kept.
            PPDError: the user was made with another PPD, or none is set, or its numbers are out of range.
            SteeringError: wrong settings.
        """
        settings = (settings or SteeringSettings()).settled(len(self.conditioner.towers))
        if strength is not None:
            settings = replace(settings, strength=strength)
        look = self._look(steps, guidance, size)
        look.require(seeds)
        at_work = acting(self.ppd, user, user_strength, user_start, user_end)
        steered = taste if settings.strength > 0 else None
        order = _Order(prompt, negative_prompt, steered, settings, look, at_work)
        keys = {seed: (*order.key, seed, *self.conditioner.state) for seed in seeds}
        with self._lock:
            new = [seed for seed in dict.fromkeys(seeds) if keys[seed] not in self._pictures]
            made = {seed: self._pictures[keys[seed]] for seed in keys if seed not in new}
            for seed, picture in zip(new, self._painted(order, new, on_step, cancelled), strict=True):
                made[seed] = self._pictures[keys[seed]] = picture
            self._forget()
            return [made[seed].copy() for seed in seeds]

    def movement(
        self, prompt: str, taste: Tastes, strength: float = 1.0, settings: SteeringSettings | None = None
    ) -> Movement:
        """Return how far a taste moves a prompt; at once when the prompt was generated with it before.

        Args:
            prompt, taste, settings: As in `images`.
            strength: 0 to 2; 0 moves nothing.

        Raises:
            EncoderMismatchError, SteeringError: as `images`.
        """
        settings = replace(settings or SteeringSettings(), strength=strength)
        with self._lock:
            return self.conditioner.steered(prompt, taste, settings)[1]

    def _painted(
        self,
        order: _Order,
        seeds: Sequence[int],
        on_step: Callable[[int, int], None] | None,
        cancelled: Callable[[], bool] | None,
    ) -> Iterator[Image.Image]:
        """The picture of each seed, as it is done; the text is made once for all of them."""
        if not seeds:
            return
        look, steered = order.look, order.steered
        # Steps of steering come before those of denoising.
        first = 0 if steered is None else order.settings.steps * len(self.conditioner.moving(steered, order.settings))
        total = first + len(seeds) * look.steps
        start = Progress(0, total, on_step, cancelled)
        texts = steered_pair(
            self.conditioner, order.prompt, order.negative_prompt, steered, order.settings, start.note, cancelled
        )
        what = f"generate {look.width}x{look.height} pixels"
        for number, seed in enumerate(seeds):
            progress = Progress(first + number * look.steps, total, on_step, cancelled)
            work = partial(self._sample, texts, seed, look, progress, order.at_work)
            yield named_when_out_of_memory(what, self._smaller, work)

    def _sample(
        self,
        texts: tuple[Conditioning, Conditioning],
        seed: int,
        look: Look,
        progress: Progress,
        at_work: Acting | None,
    ) -> Image.Image:
        """One picture, plain or for the user at work."""
        with at_work.on(self._pipeline, look) if at_work is not None else contextlib.nullcontext():
            return sample(self._pipeline, *texts, seed, look, progress)

    def _forget(self) -> None:
        """Let the oldest pictures go where there are too many."""
        pixels = sum(picture.width * picture.height for picture in self._pictures.values())
        while len(self._pictures) > KEPT or pixels > KEPT_PIXELS:
            _, oldest = self._pictures.popitem(last=False)
            pixels -= oldest.width * oldest.height

    @property
    def _smaller(self) -> str:
        """What to try where a picture doesn't fit."""
        more = {"none": "'model' or 'sequential'", "model": "'sequential'"}.get(self.offload)
        return f"Choose a smaller size{f', or load the model with offload {more}' if more else ''}."

    def _look(self, steps: int | None, guidance: float | None, size: int | tuple[int, int] | None) -> Look:
        own = self.defaults
        width, height = (size, size) if isinstance(size, int) else size or (own.size, own.size)
        return Look(
            own.steps if steps is None else steps, own.guidance if guidance is None else guidance, width, height
        )
