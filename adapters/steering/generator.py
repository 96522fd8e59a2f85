"""Pictures from a diffusers pipeline, plain or moved along a taste; the same seed, the same picture."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ..encoders import ImageTextEncoder, load_encoder
from ..errors import CancelledError, SteeringError
from ..places import typed_path
from .conditioner import TextConditioner
from .objective import TasteLike, taste_key
from .settings import Movement, SteeringSettings

__all__ = ["Defaults", "Generator"]

KEPT = 256  # pictures


@dataclass(frozen=True)
class Defaults:
    """What a model is sampled with where nothing else is said.

    Attributes:
        steps: Denoising steps.
        guidance: Classifier-free guidance scale; 1 is off.
        size: Width and height in pixels.
    """

    steps: int
    guidance: float
    size: int


class Generator:
    """A Stable Diffusion 1.5 pipeline that can follow a taste.

    Attributes:
        name: Of the model, as asked for.
        defaults: Its sampling settings.
        conditioner: Its text side; `conditioner.encoder` is what tastes must have been learned with.
    """

    def __init__(
        self,
        model: str | Path = "playground",
        device: str | torch.device = "cpu",
        encoder: ImageTextEncoder | str | Path | None = None,
    ) -> None:
        """Load a pipeline.

        Args:
            model: "playground", a diffusers pipeline folder, or its name on the hub (offline: from its cache).
            device: Where it computes; on "cuda" in float16.
            encoder: The CLIP that the model's text encoder belongs to, or what `load_encoder` takes. None takes the
                one in the folder's `clip/`, if there is one; without, it generates and can't steer.

        Raises:
            SteeringError: there is no such pipeline, or it isn't like Stable Diffusion 1.5's.
        """
        self.name = str(model) if str(model) == "playground" else Path(model).name
        self.device = torch.device(device)
        folder, sampling = _find(model)
        self._pipeline = _load(folder, self.device)
        own = int(self._pipeline.unet.config.sample_size) * int(self._pipeline.vae_scale_factor)
        self.defaults = sampling or Defaults(30, 7.5, own)
        if encoder is None and (Path(folder) / "clip").is_dir():
            encoder = load_encoder(folder if str(model) != "playground" else "playground", device)
        elif encoder is not None and not isinstance(encoder, ImageTextEncoder):
            encoder = load_encoder(encoder, device)
        self.conditioner = TextConditioner(self._pipeline.tokenizer, self._pipeline.text_encoder, encoder)
        self._pictures: OrderedDict[tuple[Any, ...], Image.Image] = OrderedDict()
        self._lock = threading.RLock()

    @property
    def encoder(self) -> ImageTextEncoder | None:
        """The CLIP that text and tastes meet in, or None."""
        return self.conditioner.encoder

    def images(
        self,
        prompt: str,
        seeds: Sequence[int],
        taste: TasteLike | None = None,
        strength: float | None = None,
        negative_prompt: str = "",
        steps: int | None = None,
        guidance: float | None = None,
        size: int | tuple[int, int] | None = None,
        settings: SteeringSettings | None = None,
        on_step: Callable[[int, int], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> list[Image.Image]:
        """Generate one picture per seed; a seed gives the same picture whatever the others are.

        Args:
            prompt: Of any length.
            seeds: 0 to 2^64 - 1 each; noise is drawn on the CPU, so that devices agree on it.
            taste: None, or strength 0, generates plainly.
            strength: Replaces the one in `settings`; 0 to 2.
            negative_prompt: Never moved.
            steps: Denoising steps, >= 1; None takes the model's default, and so on.
            guidance: Guidance scale; 1 or less is off.
            size: Pixels, or (width, height), multiples of 8.
            settings: How to steer.
            on_step: Called with (steps done, all steps), those of steering and of all pictures together.
            cancelled: Asked at every step.

        Returns:
            RGB pictures in the order of the seeds. Pictures made before are given again from memory.

        Raises:
            CancelledError: `cancelled` said so.
            EncoderMismatchError: the taste was learned with another encoder.
            SteeringError: wrong settings.
        """
        settings = settings or SteeringSettings()
        if strength is not None:
            settings = replace(settings, strength=strength)
        width, height = (size, size) if isinstance(size, int) else size or (self.defaults.size, self.defaults.size)
        steps = self.defaults.steps if steps is None else steps
        guidance = self.defaults.guidance if guidance is None else guidance
        if (
            steps < 1
            or width % 8
            or height % 8
            or width < 8
            or height < 8
            or any(not 0 <= seed < 2**64 for seed in seeds)
        ):
            raise SteeringError(
                f"Cannot generate: {steps} steps, {width}x{height} pixels, seeds {list(seeds)}; expected at least one "
                "step, multiples of 8, and seeds from 0 to 2^64 - 1. Change them."
            )
        steered = taste is not None and settings.strength > 0
        look = (taste_key(taste), settings) if taste is not None and steered else ()
        keys = {seed: (prompt, negative_prompt, seed, steps, guidance, width, height, look) for seed in seeds}
        with self._lock:
            new = [seed for seed in dict.fromkeys(seeds) if keys[seed] not in self._pictures]
            made = {seed: self._pictures[keys[seed]] for seed in keys if seed not in new}
            if new:
                first = settings.steps if steered else 0  # steps of steering come before those of denoising
                total = first + len(new) * steps
                steer = _Progress(0, total, on_step, cancelled)
                tokens, rest = self._tokens(prompt, negative_prompt, taste if steered else None, settings, steer)
                for number, seed in enumerate(new):
                    progress = _Progress(first + number * steps, total, on_step, cancelled)
                    made[seed] = self._sample(tokens, rest, seed, steps, guidance, (width, height), progress)
                    self._pictures[keys[seed]] = made[seed]
                while len(self._pictures) > KEPT:
                    self._pictures.popitem(last=False)
            return [made[seed].copy() for seed in seeds]

    def movement(
        self, prompt: str, taste: TasteLike, strength: float = 1.0, settings: SteeringSettings | None = None
    ) -> Movement:
        """How far a taste moves a prompt; at once when the prompt was generated with it before."""
        settings = replace(settings or SteeringSettings(), strength=strength)
        with self._lock:
            return self.conditioner.steered(prompt, taste, settings)[1]

    def _tokens(
        self,
        prompt: str,
        negative_prompt: str,
        taste: TasteLike | None,
        settings: SteeringSettings,
        progress: _Progress,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        text = self.conditioner
        chunks = max(len(text.token_ids(prompt)), len(text.token_ids(negative_prompt)))
        if taste is None:
            tokens = text.plain(prompt, chunks)
        else:
            tokens, _ = text.steered(prompt, taste, settings, progress.note, progress.cancelled)
            missing = chunks - len(text.token_ids(prompt))
            if missing:  # both halves of guidance must be as long
                tokens = torch.cat([tokens, text.plain("", missing)], dim=1)
        return tokens, text.plain(negative_prompt, chunks)

    def _sample(
        self,
        tokens: torch.Tensor,
        rest: torch.Tensor,
        seed: int,
        steps: int,
        guidance: float,
        size: tuple[int, int],
        progress: _Progress,
    ) -> Image.Image:
        # One picture at a time: in a batch, results differ in the last bits with the size of the batch.
        with torch.inference_mode():
            out = self._pipeline(
                prompt_embeds=tokens,
                negative_prompt_embeds=rest,
                generator=torch.Generator("cpu").manual_seed(seed),
                num_inference_steps=steps,
                guidance_scale=guidance,
                width=size[0],
                height=size[1],
                callback_on_step_end=progress,
            )
        picture: Image.Image = out.images[0].convert("RGB")
        return picture


@dataclass(frozen=True)
class _Progress:
    """What is told to the person; called by diffusers after every step."""

    before: int
    total: int
    on_step: Callable[[int, int], None] | None
    cancelled: Callable[[], bool] | None

    def note(self, done: int, _: int = 0) -> None:
        """Pass on how many steps of this part are done."""
        if self.on_step is not None:
            self.on_step(self.before + done, self.total)

    def __call__(self, pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if self.cancelled is not None and self.cancelled():
            raise CancelledError(f"Cancelled after {self.before + step + 1} of {self.total} steps.")
        self.note(step + 1)
        return tensors


def _find(model: str | Path) -> tuple[str | Path, Defaults | None]:
    if str(model) == "playground":
        from ..playground import SAMPLING, playground_folder

        return playground_folder(), Defaults(SAMPLING.steps, SAMPLING.guidance, SAMPLING.size)
    path = typed_path(model)
    if os.path.isdir(path):
        return path, None
    if str(model).count("/") == 1 and not str(model).startswith((".", "/", "~")):
        return str(model), None
    raise SteeringError(
        f"Cannot load the model {path.name!r}: no such folder; expected a diffusers pipeline of Stable Diffusion 1.5. "
        "Give its folder, or 'playground'."
    )


def _load(folder: str | Path, device: torch.device) -> Any:
    from diffusers import StableDiffusionPipeline

    dtype = torch.float16 if device.type == "cuda" else torch.float32
    try:
        pipeline = StableDiffusionPipeline.from_pretrained(
            str(folder), safety_checker=None, feature_extractor=None, requires_safety_checker=False
        )
    except Exception as error:  # diffusers raises many kinds for what isn't a pipeline
        raise SteeringError(
            f"Cannot load the model {Path(folder).name!r}: {error}; expected a diffusers pipeline of Stable Diffusion "
            "1.5. Give another folder, or 'playground'."
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        # Here rather than while loading: transformers 5 takes each file's own precision, diffusers float32.
        if part.dtype != dtype:
            part.to(dtype)
    return pipeline.to(device)
