"""Pictures of conditionings in batches, encoded and measured: what every arm of a study on pictures is made with.

Shapes: N pictures, F features that people may care for, D joint width.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..playground.measure import measure
from ..playground.people import features
from ..ppd.diffusers import user_branch
from ..ppd.model import PPD
from ..steering import Conditioning, Generator
from ._tables import Array

__all__ = ["Job", "Painter", "Read", "Seen", "seen_in", "stronger"]

Read = Callable[[Image.Image], tuple[Array, dict[str, str]]]
"""What is measured in a picture: (F,) numbers, and property -> value."""

BATCH = 16  # pictures; more at a time are no faster on a processor


@dataclass(frozen=True)
class Job:
    """One picture to paint.

    Attributes:
        conditioning: Of the prompt.
        seed: Of the noise.
        user: Tokens (K, W) of a PPD's user, or None.
        ppd: What they are for.
        negative: Prompt of the other side of guidance.
    """

    conditioning: Conditioning
    seed: int
    user: torch.Tensor | None = None
    ppd: PPD | None = None
    negative: str = ""

    @property
    def key(self) -> str:
        """The same for jobs that give the same picture."""
        digest = hashlib.sha256(f"{self.seed} {self.negative}".encode())
        if self.ppd is not None and self.user is not None:
            digest.update(self.ppd.identity.encode())
        for tensor in (self.conditioning.tokens, self.conditioning.pooled, self.user):
            if tensor is not None:
                digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Seen:
    """What is in so many pictures.

    Attributes:
        features: (N, F) measured from the pixels, in the order of FEATURES unless something else was read.
        named: N times property -> measured value.
        vectors: (N, D) of the encoder, unit norm.
    """

    features: Array
    named: tuple[dict[str, str], ...]
    vectors: Array

    def __getitem__(self, rows: slice) -> Seen:
        return Seen(self.features[rows], self.named[rows], self.vectors[rows])

    @classmethod
    def joined(cls, parts: Sequence[Seen]) -> Seen:
        """Several, one after the other."""
        named = tuple(row for part in parts for row in part.named)
        return cls(np.concatenate([p.features for p in parts]), named, np.concatenate([p.vectors for p in parts]))


def stronger(ppd: PPD, strength: float) -> PPD:
    """The same weights, made to act as `use_user` does at this strength."""
    with torch.no_grad():
        for value in ppd.attention.values:
            value.weight.mul_(strength)  # type: ignore[operator]
    return ppd


def seen_in(picture: Image.Image) -> tuple[Array, dict[str, str]]:
    """What people may care for, in the order of FEATURES, and what a caption may name."""
    found = measure(picture)
    return features(found), found.named()


class Painter:
    """Paints in batches with a generator's models and settings, and remembers what it saw.

    A picture comes out as `Generator.images` makes it, up to the last bits, in which a batch differs from one by one.
    The same conditioning with the same seed is painted once, so an arm that changes nothing has the same numbers.

    Attributes:
        generator: Whose models and defaults are used.
        seconds: Spent on painting so far.
        painted: Pictures so far.
    """

    def __init__(self, generator: Generator, bfloat16: bool = False, read: Read = seen_in) -> None:
        """Take a generator.

        Args:
            generator: The models; they are laid out in memory as processors like it, which keeps all values.
            bfloat16: Paint in that precision; several times faster on processors that have it.
            read: Measures each picture.
        """
        self.generator, self._bfloat16, self._read = generator, bfloat16, read
        self.seconds, self.painted = 0.0, 0
        self._pipeline: Any = generator._pipeline
        self._kept: dict[str, Seen] = {}
        self._started = time.perf_counter()
        if generator.device.type == "cpu":
            for part in (self._pipeline.unet, self._pipeline.vae):
                part.to(memory_format=torch.channels_last)

    def look(self, jobs: Sequence[Job]) -> Seen:
        """Paint, encode and measure; row by row as the jobs."""
        keys = [job.key for job in jobs]
        new = {key: job for key, job in zip(keys, jobs, strict=True) if key not in self._kept}
        groups: dict[tuple[int, int], list[str]] = {}
        for key, job in new.items():
            groups.setdefault((job.conditioning.tokens.shape[1], id(job.ppd)), []).append(key)
        for members in groups.values():
            for start in range(0, len(members), BATCH):
                part = members[start : start + BATCH]
                with self._users([new[key] for key in part]):
                    painted = self._paint([new[key] for key in part])
                self._keep(part, painted)
        return Seen.joined([self._kept[key] for key in keys])

    @contextlib.contextmanager
    def _users(self, jobs: Sequence[Job]) -> Iterator[None]:
        """Let each row's user act on its conditional half, as `use_user` does for one."""
        ppd = jobs[0].ppd
        if ppd is None:
            yield
            return
        tokens = torch.stack([job.user for job in jobs if job.user is not None])
        with user_branch(self._pipeline.unet, ppd) as branch:
            branch.tokens = torch.cat([torch.zeros_like(tokens), tokens])
            yield

    def _keep(self, keys: Sequence[str], pictures: list[Image.Image]) -> None:
        encoder = self.generator.encoder
        assert encoder is not None
        vectors = encoder.encode_images(pictures).double().numpy()
        for key, picture, vector in zip(keys, pictures, vectors, strict=True):
            found, named = self._read(picture)
            self._kept[key] = Seen(found[None], (named,), vector[None])

    def _paint(self, jobs: Sequence[Job]) -> list[Image.Image]:
        started, defaults, text = time.perf_counter(), self.generator.defaults, self.generator.conditioner
        prompts = [job.conditioning for job in jobs]
        chunks = prompts[0].tokens.shape[1] // 77
        negatives = [text.negative(job.negative, chunks) for job in jobs]
        inputs = {
            "prompt_embeds": torch.cat([prompt.tokens for prompt in prompts]),
            "negative_prompt_embeds": torch.cat([negative.tokens for negative in negatives]),
        }
        if negatives[0].pooled is not None:
            inputs["pooled_prompt_embeds"] = torch.cat([p.pooled for p in prompts if p.pooled is not None])
            inputs["negative_pooled_prompt_embeds"] = torch.cat([n.pooled for n in negatives if n.pooled is not None])
        kind = self.generator.device.type
        precision = torch.autocast(kind, torch.bfloat16) if self._bfloat16 else contextlib.nullcontext()
        with torch.inference_mode(), precision:
            out = self._pipeline(
                **inputs,
                generator=[torch.Generator("cpu").manual_seed(job.seed) for job in jobs],
                num_inference_steps=defaults.steps,
                guidance_scale=defaults.guidance,
                width=defaults.size,
                height=defaults.size,
            )
        self.seconds += time.perf_counter() - started
        self.painted += len(jobs)
        sys.stderr.write(f"\r{self.painted} pictures, {time.perf_counter() - self._started:.0f} s ")
        sys.stderr.flush()
        return [picture.convert("RGB") for picture in out.images]
