"""Pictures to what CLIP's image tower takes: shorter side resized, centre cropped, normalised.

PIL images and tensors go the same way, so a graph and a panel get the same vectors for the same pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ..comparisons import read_image
from ..errors import ImageError

__all__ = ["as_batches", "prepare"]

_LONGEST = 16  # times the shorter side; what a square crop of a longer picture shows lies well inside


def as_batches(images: Sequence[Image.Image] | Tensor) -> list[Tensor]:
    """Turn pictures into float tensors (H, W, 3) in [0, 1], one per picture; sizes may differ.

    Raises:
        ImageError: another shape, NaN, or values that are not in [0, 1].
    """
    if isinstance(images, Tensor):
        return [_checked(image) for image in images] if images.ndim == 4 else [_checked(images)]
    return [_from_pil(image) for image in images]


def prepare(image: Tensor, size: int, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Resize (bicubic, antialiased) and crop one picture to what an image tower takes.

    Values are rounded to 8 bits after resizing, as picture libraries do.

    Args:
        image: (H, W, 3) in [0, 1].
        size: Pixels a side.
        mean, std: Of the encoder's normalisation, one for each channel.

    Returns:
        (3, size, size) float32, (value - mean) / std.
    """
    pixels = _middle(image).permute(2, 0, 1)[None]
    height, width = pixels.shape[-2:]
    if (height, width) != (size, size):
        scale = size / min(height, width)
        new = (max(size, round(height * scale)), max(size, round(width * scale)))
        pixels = F.interpolate(pixels, size=new, mode="bicubic", antialias=True)
        top, left = (new[0] - size) // 2, (new[1] - size) // 2
        pixels = pixels[..., top : top + size, left : left + size]
    pixels = (pixels.clamp(0, 1) * 255).round() / 255
    offset = torch.tensor(mean, dtype=torch.float32)[:, None, None]
    spread = torch.tensor(std, dtype=torch.float32)[:, None, None]
    return (pixels[0] - offset) / spread


def _middle(image: Tensor) -> Tensor:
    """Cut the ends off a very long picture: resized whole, one of 1 x 60000 pixels would take gigabytes."""
    height, width = image.shape[:2]
    most = _LONGEST * min(height, width)
    top, left = max(0, height - most) // 2, max(0, width - most) // 2
    return image[top : top + most, left : left + most]


def _from_pil(image: Image.Image) -> Tensor:
    if not isinstance(image, Image.Image):
        raise ImageError(f"Cannot encode a {type(image).__name__}; expected a PIL image. Open the file first.")
    return torch.from_numpy(np.array(read_image(image), dtype=np.float32) / 255.0)


def _checked(image: Tensor) -> Tensor:
    if image.ndim != 3 or image.shape[-1] not in (3, 4) or 0 in image.shape:
        raise ImageError(
            f"Cannot encode a picture of shape {tuple(image.shape)}; expected (height, width, 3). Move colours last."
        )
    pixels = image[..., :3].detach().to("cpu", torch.float32)
    if not bool(torch.isfinite(pixels).all()):
        raise ImageError(
            "Cannot encode the picture: found NaN or infinity; expected values in [0, 1]. Generate it again."
        )
    low, high = float(pixels.min()), float(pixels.max())
    if low < -0.5 or high > 1.5:
        raise ImageError(
            f"Cannot encode the picture: values run from {low:.3g} to {high:.3g}; expected [0, 1]. Divide by 255."
        )
    return pixels
