"""Pairs made ready once: pictures as latents, prompts as conditioning. What is left of each step is the denoiser.

They may stay on the disk: of a data set that is larger than memory only the batch at hand is read.

Shapes: N pairs, B of a batch, C channels, h and w of the latents, T tokens, H width of the conditioning.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import CancelledError, FineTuneError
from ..steering import Conditioning, TextConditioner
from .latents import Kept, Picture, covering, latents_of, shape_of, ways_of
from .pairs import LabelledPair
from .shelf import Rows, Shelf

__all__ = ["Batch", "FirstChunk", "Prepared", "Reads", "covering", "latents_of", "prepare"]

_TOKENS = 77  # the first chunk of a prompt; what follows it is not trained on
_STEP = 64  # pixels between two shapes of a bucket


class Reads(Protocol):
    """A model's text side."""

    def plain(self, prompt: str, /) -> Conditioning:
        """A prompt's conditioning, always of as many tokens."""


@dataclass(frozen=True, eq=False)
class FirstChunk:
    """The text side of Stable Diffusion's UNets, of which the first chunk of a prompt counts."""

    text: TextConditioner

    def plain(self, prompt: str) -> Conditioning:
        found = self.text.plain(prompt)
        return replace(found, tokens=found.tokens[:, :_TOKENS])


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
    """N pairs on the CPU or the disk, by their shape.

    Attributes:
        chosen, rejected: N latents (C, h, w) each; both sides of a pair have one shape.
        prompts: Index of each pair's prompt.
        tokens: P of (T, H), one for each different prompt, the empty one last. pooled: P of (D,), or None.
        sizes: N of SDXL's (height, width, top, left, height, width), or None.
        mirrored: Latents of the chosen and of the rejected pictures turned left to right, or None.
    """

    chosen: Sequence[Tensor]
    rejected: Sequence[Tensor]
    prompts: Sequence[int]
    tokens: Sequence[Tensor] | Tensor
    pooled: Sequence[Tensor] | Tensor | None = None
    sizes: Sequence[tuple[int, ...]] | None = None
    mirrored: tuple[Sequence[Tensor], Sequence[Tensor]] | None = None

    def __len__(self) -> int:
        return len(self.prompts)

    def draw(self, count: int, rng: random.Random) -> list[int]:
        """Return `count` indices of pairs of one shape; no pair twice unless there are fewer."""
        alike = self._alike[self.shape(rng.randrange(len(self)))]
        if count <= len(alike):
            return rng.sample(alike, count)
        return [alike[k % len(alike)] for k in range(count)]

    def shape(self, index: int) -> tuple[int, ...]:
        """(C, h, w) of a pair's latents; nothing is read from the disk."""
        return self.chosen.shape(index) if isinstance(self.chosen, Rows) else tuple(self.chosen[index].shape)

    @cached_property
    def _alike(self) -> dict[tuple[int, ...], list[int]]:
        """Pairs by their shape."""
        found: dict[tuple[int, ...], list[int]] = {}
        for index in range(len(self)):
            found.setdefault(self.shape(index), []).append(index)
        return found

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
            torch.stack([self.tokens[row] for row in rows]).to(device),
            None if self.pooled is None else torch.stack([self.pooled[row] for row in rows]).to(device),
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
    text: Reads,
    size: int,
    step: int = _STEP,
    on_picture: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    mirror: bool = False,
    shelf: Shelf | None = None,
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
        shelf: Where to put what they are made into, and where to find what was made before; None: in memory.

    Raises:
        CancelledError: `cancelled` said so.
        FineTuneError: no pairs, or the shelf's disk is full.
        ImageError: a picture can't be read.
    """
    if not pairs:
        raise FineTuneError("Cannot train: found no pairs; expected one or more.")
    kept = Kept(shelf)
    sides: list[list[list[int]]] = [[], []]
    sizes = []
    for number, pair in enumerate(pairs):
        first = Picture(pair.chosen, kept)
        shape = shape_of(first.size, size, step)
        for side, picture in enumerate((first, Picture(pair.rejected, kept))):
            if cancelled is not None and cancelled():
                raise CancelledError("Stopped before the training began.")
            sides[side].append(ways_of(kept, vae, picture, shape, mirror))
        sizes.append((first.size[1], first.size[0], 0, 0, shape[1], shape[0]))
        if on_picture is not None:
            on_picture(2 * number + 2, 2 * len(pairs))
    prompts = list(dict.fromkeys(pair.prompt for pair in pairs))
    said = [_conditioning(kept, text, prompt) for prompt in [*prompts, ""]]
    pooled = [place for _, place in said if place is not None]
    kept.keep()
    place = {prompt: index for index, prompt in enumerate(prompts)}
    plain, turned = ([kept.rows([ways[way] for ways in side]) for side in sides] for way in (0, -1))
    return Prepared(
        plain[0],
        plain[1],
        tuple(place[pair.prompt] for pair in pairs),
        kept.rows([place for place, _ in said]),
        kept.rows(pooled) if pooled else None,
        tuple(sizes) if pooled else None,
        (turned[0], turned[1]) if mirror else None,
    )


def _conditioning(kept: Kept, text: Reads, prompt: str) -> tuple[int, int | None]:
    """Places of a prompt's tokens (T, H), and of what is pooled of it (D,), if anything is."""
    tokens, pooled = kept.find(f"tokens {prompt}"), kept.find(f"pooled {prompt}")
    if tokens is None:
        with torch.no_grad():
            found = text.plain(prompt)
        if found.pooled is not None:
            pooled = kept.add(f"pooled {prompt}", found.pooled[0].cpu())
        tokens = kept.add(f"tokens {prompt}", found.tokens[0].cpu())
    return tokens, pooled
