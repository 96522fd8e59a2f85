"""One run of a pipeline: what it is asked for, and what it tells meanwhile."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from ..errors import CancelledError, SteeringError
from .conditioning import Conditioning, prompt_arguments

__all__ = ["Look", "Progress", "sample"]


@dataclass(frozen=True)
class Look:
    """How pictures are sampled.

    Attributes:
        steps: Denoising steps, >= 1.
        guidance: Guidance scale; 1 or less is off.
        width, height: Pixels, multiples of 8.
    """

    steps: int
    guidance: float
    width: int
    height: int

    def require(self, seeds: Sequence[int]) -> None:
        """Refuse what makes no picture.

        Raises:
            SteeringError: no steps, guidance that is NaN, a size that isn't a multiple of 8, or seeds beyond 64 bits.
        """
        faults = []
        if self.steps < 1:
            faults.append(f"{self.steps} steps; expected 1 or more")
        if not math.isfinite(self.guidance):
            faults.append(f"guidance {self.guidance:g}; expected a number")
        if any(side < 8 or side % 8 for side in (self.width, self.height)):
            faults.append(f"{self.width}x{self.height} pixels; expected multiples of 8")
        if wrong := [seed for seed in seeds if not 0 <= seed < 2**64]:
            faults.append(f"seed {wrong[0]}; expected 0 to 2^64 - 1")
        if faults:
            raise SteeringError(f"Cannot generate: {'; '.join(faults)}. Change that.")


@dataclass(frozen=True)
class Progress:
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


def sample(
    pipeline: Any, wanted: Conditioning, negative: Conditioning, seed: int, look: Look, progress: Progress
) -> Image.Image:
    """Generate one picture. One at a time: in a batch, results differ in the last bits with the size of the batch.

    Noise is drawn on the CPU, so that devices agree on it.

    Args:
        pipeline: Of diffusers, like Stable Diffusion's.
        wanted, negative: Conditioning of the two prompts, of as many chunks.
        seed: 0 to 2^64 - 1.
        look: Steps, guidance and size.
        progress: Is told of every step, and may cancel.

    Raises:
        CancelledError: `progress` was told to.
    """
    with torch.no_grad():  # not inference mode: weights that are moved meanwhile would become inference tensors
        out = pipeline(
            **prompt_arguments(wanted, negative),
            generator=torch.Generator("cpu").manual_seed(seed),
            num_inference_steps=look.steps,
            guidance_scale=look.guidance,
            width=look.width,
            height=look.height,
            callback_on_step_end=progress,
        )
    picture: Image.Image = out.images[0].convert("RGB")
    return picture
