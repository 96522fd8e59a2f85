"""How a denoiser was trained: noise added by a schedule, and what it predicts.

Shapes: B images, C channels, h and w of the latents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import FineTuneError

__all__ = ["PREDICTIONS", "Noising", "noising_of"]

PREDICTIONS = ("epsilon", "v_prediction", "flow")


@dataclass(frozen=True, eq=False)
class Noising:
    """A noise schedule and the target that goes with it.

    Attributes:
        prediction: "epsilon" (the noise), "v_prediction" (the velocity of Salimans & Ho 2022) or "flow" (noise minus
            image, along a straight line, as SD3 and Flux have it).
        kept: (T,) share of the image's variance that is left at each timestep, in (0, 1]; for "flow" not used.
        timesteps: T.
        sigmas: (T,) for "flow": share of the noise at each timestep, rising to 1; None is (t + 1) / T. SD3's and Flux's
            are shifted towards the noise.
        times: (T,) what the denoiser is told of each timestep instead of its number; None: its number.
    """

    prediction: str
    kept: Tensor
    timesteps: int
    sigmas: Tensor | None = None
    times: Tensor | None = None

    def told(self, timesteps: Tensor) -> Tensor:
        """What the denoiser is told of timesteps (B,): their numbers, or T times the share of the noise for "flow"."""
        if self.times is not None:
            return self.times.to(timesteps.device)[timesteps]
        if self.prediction != "flow":
            return timesteps
        return self._flow(timesteps) * self.timesteps

    def noised(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Latents (B, C, h, w) with as much noise as belongs to timesteps (B,)."""
        image, other = self._shares(timesteps, latents)
        return image * latents + other * noise

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What a perfect denoiser predicts (B, C, h, w)."""
        if self.prediction == "epsilon":
            return noise
        if self.prediction == "flow":
            return noise - latents
        image, other = self._shares(timesteps, latents)
        return image * noise - other * latents

    def _shares(self, timesteps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Factors (B, 1, 1, 1) of image and noise."""
        if self.prediction == "flow":
            noise = self._flow(timesteps).to(like)
            image = 1.0 - noise
        else:
            kept = self.kept.to(like.device)[timesteps].to(like.dtype)
            image, noise = kept.sqrt(), (1.0 - kept).sqrt()
        return image[:, None, None, None], noise[:, None, None, None]

    def _flow(self, timesteps: Tensor) -> Tensor:
        """(B,) share of the noise."""
        if self.sigmas is None:
            return (timesteps.float() + 1.0) / self.timesteps
        return self.sigmas.to(timesteps.device)[timesteps]


def noising_of(scheduler: Any, places: int | None = None) -> Noising:
    """Return the noising that a pipeline's scheduler belongs to.

    Args:
        scheduler: diffusers'.
        places: Of a picture, as its transformer attends to them: where the scheduler shifts towards the noise by how
            many there are, as FLUX.1-dev's does. None leaves such a one as it is.

    Raises:
        FineTuneError: a kind that can't be trained here.
    """
    config = scheduler.config
    count = int(config.get("num_train_timesteps", 1000))
    kept = getattr(scheduler, "alphas_cumprod", None)
    if kept is None and hasattr(scheduler, "_alpha_cumprod"):  # Stable Cascade's, whose time is continuous
        ratios = torch.arange(1, count + 1) / count
        return Noising("epsilon", scheduler._alpha_cumprod(ratios, ratios.device), count, times=ratios)
    if kept is None:
        if "FlowMatch" not in type(scheduler).__name__:
            raise FineTuneError(
                f"Cannot train with a {type(scheduler).__name__}: found no noise schedule; expected one of Stable "
                "Diffusion's or a flow-matching one."
            )
        # A new scheduler's are those of training, already shifted, from noise to image, and a 0 in newer versions.
        sigmas = torch.as_tensor(type(scheduler).from_config(config).sigmas, dtype=torch.float32).cpu()[:count]
        if places is not None and config.get("use_dynamic_shifting"):
            sigmas = scheduler.time_shift(_shift(config, places), 1.0, sigmas)
        return Noising("flow", torch.ones(count), count, sigmas.flip(0).contiguous())
    prediction = str(config.get("prediction_type", "epsilon"))
    if prediction not in PREDICTIONS:
        raise FineTuneError(
            f"Cannot train a model that predicts {prediction!r}; expected one of {', '.join(PREDICTIONS)}."
        )
    return Noising(prediction, torch.as_tensor(kept, dtype=torch.float32), count)


def _shift(config: Any, places: int) -> float:
    """The logarithm of how far times are shifted for so many places: a straight line, as the pipelines draw it."""
    first, last = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    return float(low + (high - low) * (places - first) / (last - first))
