"""Pictures as latents: read when they must be, scaled to the nearest shape, encoded once.

Shapes: C channels, h and w of the latents.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..comparisons.images import read_image
from .shelf import Rows, Shelf

__all__ = ["Kept", "Picture", "covering", "latents_of", "shape_of", "ways_of"]


class Kept:
    """Tensors by key, in memory or on a shelf."""

    def __init__(self, shelf: Shelf | None) -> None:
        self._shelf = shelf
        self._places: dict[str, int] = {}
        self._here: list[Tensor] = []

    def find(self, key: str) -> int | None:
        """The place of what was put there under a key; None: nothing was."""
        return self._places.get(key) if self._shelf is None else self._shelf.find(key)

    def add(self, key: str, value: Tensor) -> int:
        """Put a tensor behind the others, and return its place."""
        if self._shelf is not None:
            return self._shelf.add(key, value)
        self._here.append(value)
        return self._places.setdefault(key, len(self._here) - 1)

    def __getitem__(self, place: int) -> Tensor:
        return self._here[place] if self._shelf is None else self._shelf[place]

    def keep(self) -> None:
        """Have all of it on the disk, where that is where it goes."""
        if self._shelf is not None:
            self._shelf.keep()

    def rows(self, places: Sequence[int]) -> Sequence[Tensor]:
        """The tensors at these places, read when they are asked for."""
        return tuple(self._here[place] for place in places) if self._shelf is None else Rows(self._shelf, places)


class Picture:
    """A picture that is read only when it must be: what was made of it before may be known.

    Attributes:
        name: Of the file as it is now. size: (width, height) in pixels.

    Raises:
        ImageError: it can't be read.
    """

    def __init__(self, path: Path, kept: Kept) -> None:
        self._path = path
        self._picture: Image.Image | None = None
        try:
            known = path.stat()
            self.name = f"{path} {known.st_size} {known.st_mtime_ns}"
        except OSError:
            self.name = str(path)  # reading it says what is the matter
        place = kept.find(f"{self.name} size")
        if place is None:
            place = kept.add(f"{self.name} size", torch.tensor(self.picture.size))
        width, height = kept[place].tolist()
        self.size = int(width), int(height)

    @property
    def picture(self) -> Image.Image:
        """As RGB."""
        if self._picture is None:
            self._picture = read_image(self._path)
        return self._picture


def ways_of(kept: Kept, vae: Any, opened: Picture, shape: tuple[int, int], mirror: bool) -> list[int]:
    """Places of a picture's latents, and of those of its mirror image."""
    places = []
    for way in ("plain", "mirrored")[: 1 + mirror]:
        key = f"{opened.name} {shape[0]}x{shape[1]} {way}"
        place = kept.find(key)
        if place is None:
            covered = covering(opened.picture, shape)
            place = kept.add(key, latents_of(vae, ImageOps.mirror(covered) if way == "mirrored" else covered))
        places.append(place)
    return places


def shape_of(picture: tuple[int, int], size: int, step: int) -> tuple[int, int]:
    """(width, height) in pixels for a picture of this size."""
    wide = picture[0] / picture[1]
    shapes = {(size, size)}
    for width in range(step, 2 * size + 1, step):
        height = size * size // width // step * step
        if height >= step and 0.5 <= width / height <= 2.0:
            shapes.add((width, height))
    return min(shapes, key=lambda shape: (abs(np.log(shape[0] / shape[1] / wide)), -shape[0] * shape[1]))


def covering(picture: Image.Image, shape: tuple[int, int]) -> Image.Image:
    """Scale a picture to cover (width, height) pixels, and cut it at the centre."""
    scale = max(shape[0] / picture.width, shape[1] / picture.height)
    width, height = max(shape[0], round(picture.width * scale)), max(shape[1], round(picture.height * scale))
    if (width, height) != picture.size:
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    left, top = (width - shape[0]) // 2, (height - shape[1]) // 2
    return picture.crop((left, top, left + shape[0], top + shape[1]))


def latents_of(vae: Any, picture: Image.Image) -> Tensor:
    """Latents (C, h, w) as the denoiser takes them, on the CPU, of a picture whose sides are multiples of 8."""
    pixels = torch.from_numpy(np.asarray(picture, dtype=np.float32) / 127.5 - 1.0).permute(2, 0, 1)[None]
    with torch.no_grad():
        mean = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist.mean[0].float()
    shift = vae.config.get("shift_factor") or 0.0
    latents: Tensor = ((mean - shift) * vae.config.scaling_factor).cpu()
    return latents
