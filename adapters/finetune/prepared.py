"""Pairs made ready once: pictures as latents, prompts as conditioning. What is left of each step is the denoiser.

Shapes: N pairs, B of a batch, C channels, h and w of the latents, T tokens, H width of the conditioning.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..comparisons.images import read_image
from ..errors import CancelledError, FineTuneError
from ..steering import TextConditioner
from .pairs import LabelledPair

__all__ = ["TOKENS", "Batch", "Prepared", "covering", "latents_of", "prepare"]

TOKENS = 77  # the first chunk of a prompt; what follows it is not trained on
_STEP = 64  # pixels between two shapes of a bucket


@dataclass(frozen=True, eq=False)
class Batch:
    """B pairs as the denoiser takes them, on its device.

    Attributes:
        chosen, rejected: (B, C, h, w) latents.
        tokens: (B, T, H). pooled: (B, D) or None. sizes: (B, 6) SDXL's micro-conditioning, or None.
    """

    chosen: Tensor
    rejected: Tensor
    tokens: Tensor
    pooled: Tensor | None = None
    sizes: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Prepared:
    """N pairs on the CPU, by their shape.

    Attributes:
        chosen, rejected: N latents (C, h, w) each; both sides of a pair have one shape.
        prompts: Index of each pair's prompt.
        tokens: (P, T, H) of the different prompts, the empty one last. pooled: (P, D) or None.
        sizes: N of SDXL's (height, width, top, left, height, width), or None.
        mirrored: Latents of the chosen and of the rejected pictures turned left to right, or None.
    """

    chosen: tuple[Tensor, ...]
    rejected: tuple[Tensor, ...]
    prompts: tuple[int, ...]
    tokens: Tensor
    pooled: Tensor | None = None
    sizes: tuple[tuple[int, ...], ...] | None = None
    mirrored: tuple[tuple[Tensor, ...], tuple[Tensor, ...]] | None = None

    def __len__(self) -> int:
        return len(self.prompts)

    def draw(self, count: int, rng: random.Random) -> list[int]:
        """Return `count` indices of pairs of one shape; no pair twice unless there are fewer."""
        first = rng.randrange(len(self))
        alike = [index for index in range(len(self)) if self.chosen[index].shape == self.chosen[first].shape]
        if count <= len(alike):
            return rng.sample(alike, count)
        return [alike[k % len(alike)] for k in range(count)]

    def batch(
        self,
        indices: Sequence[int],
        device: torch.device,
        uncaptioned: Sequence[bool] = (),
        turned: Sequence[bool] = (),
    ) -> Batch:
        """Return these pairs; those marked as uncaptioned with the empty prompt, both sides of the turned mirrored."""
        rows = [
            len(self.tokens) - 1 if place < len(uncaptioned) and uncaptioned[place] else self.prompts[index]
            for place, index in enumerate(indices)
        ]
        sizes = None if self.sizes is None else torch.tensor([self.sizes[index] for index in indices], device=device)
        return Batch(
            self._side(0, indices, turned).to(device),
            self._side(1, indices, turned).to(device),
            self.tokens[rows].to(device),
            None if self.pooled is None else self.pooled[rows].to(device),
            sizes,
        )

    def _side(self, side: int, indices: Sequence[int], turned: Sequence[bool]) -> Tensor:
        plain = (self.chosen, self.rejected)[side]
        found = []
        for place, index in enumerate(indices):
            other = self.mirrored is not None and place < len(turned) and turned[place]
            found.append(self.mirrored[side][index] if other and self.mirrored is not None else plain[index])
        return torch.stack(found)


def prepare(
    pairs: Sequence[LabelledPair],
    vae: Any,
    text: TextConditioner,
    size: int,
    step: int = _STEP,
    on_picture: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    mirror: bool = False,
) -> Prepared:
    """Encode all pictures and prompts, each once.

    A pair takes the shape, out of those with `size` squared pixels or fewer and sides that are multiples of `step`,
    that is nearest to the chosen picture's; both pictures are scaled to cover it and cut at the centre.

    Args:
        pairs: N >= 1.
        vae: diffusers' AutoencoderKL. text: The model's text side.
        size: Side of a square picture in pixels.
        step: Multiple of 8.
        on_picture: Called with (pictures done, all).
        cancelled: Asked before each.
        mirror: Whether to encode each turned left to right, too.

    Raises:
        CancelledError: `cancelled` said so.
        ImageError: a picture can't be read.
    """
    if not pairs:
        raise FineTuneError("Cannot train: found no pairs; expected one or more.")
    done: dict[tuple[Path, tuple[int, int]], tuple[Tensor, ...]] = {}
    sides: list[list[tuple[Tensor, ...]]] = [[], []]
    sizes = []
    for number, pair in enumerate(pairs):
        opened = [read_image(pair.chosen), read_image(pair.rejected)]
        shape = _shape(opened[0].size, size, step)
        for side, (path, picture) in enumerate(zip((pair.chosen, pair.rejected), opened, strict=True)):
            if cancelled is not None and cancelled():
                raise CancelledError("Stopped before the training began.")
            if (path, shape) not in done:
                covered = covering(picture, shape)
                ways = [covered, ImageOps.mirror(covered)] if mirror else [covered]
                done[path, shape] = tuple(latents_of(vae, way) for way in ways)
            sides[side].append(done[path, shape])
        sizes.append((opened[0].height, opened[0].width, 0, 0, shape[1], shape[0]))
        if on_picture is not None:
            on_picture(2 * number + 2, 2 * len(pairs))
    prompts = list(dict.fromkeys(pair.prompt for pair in pairs))
    with torch.no_grad():
        found = [text.plain(prompt) for prompt in [*prompts, ""]]
    pooled = None if found[0].pooled is None else torch.cat([one.pooled for one in found if one.pooled is not None])
    place = {prompt: index for index, prompt in enumerate(prompts)}
    return Prepared(
        tuple(ways[0] for ways in sides[0]),
        tuple(ways[0] for ways in sides[1]),
        tuple(place[pair.prompt] for pair in pairs),
        torch.cat([one.tokens[:, :TOKENS] for one in found]).cpu(),
        None if pooled is None else pooled.cpu(),
        tuple(sizes) if pooled is not None else None,
        (tuple(ways[1] for ways in sides[0]), tuple(ways[1] for ways in sides[1])) if mirror else None,
    )


def _shape(picture: tuple[int, int], size: int, step: int) -> tuple[int, int]:
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
