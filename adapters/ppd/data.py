"""What a PPD is trained on: pairs of many people, by index, so that they may lie on a disk.

Shapes: M pictures, N pairs, P prompts, C channels, h and w of the latents, D width of the image vectors, T tokens, H
width of the conditioning.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from ..errors import PPDError

__all__ = [
    "FEWEST_PAIRS",
    "KnowsPeople",
    "PPDData",
    "PPDPair",
    "PreparedPPD",
    "SharesPictures",
    "rows_of",
    "split_people",
    "support_of",
]

FEWEST_PAIRS = 2  # of a person: one to train on, one to know them by


class PPDPair(NamedTuple):
    """One answer.

    Attributes:
        chosen, rejected: (C, h, w) latents, ready for the denoiser.
        prompt: Index of its prompt. person: Index of who answered.
        size: SDXL's (height, width, top, left, height, width) in pixels, or None.
    """

    chosen: Tensor
    rejected: Tensor
    prompt: int
    person: int
    size: tuple[int, ...] | None = None


class PPDData(Protocol):
    """Pairs of many people by index; each person has `FEWEST_PAIRS` or more.

    Attributes:
        people: How many people; their indices are 0 to people - 1.
    """

    @property
    def people(self) -> int: ...

    def __len__(self) -> int:
        """How many pairs."""
        ...

    def pair(self, index: int, /) -> PPDPair:
        """The pair's latents, its prompt and its person."""
        ...

    def vectors(self, index: int, /) -> tuple[Tensor, Tensor]:
        """(D,) image vectors of the chosen and of the rejected picture."""
        ...

    def pairs_of(self, person: int, /) -> Sequence[int]:
        """Indices of a person's pairs."""
        ...

    def tokens(self, prompt: int, /) -> tuple[Tensor, Tensor | None]:
        """Conditioning (T, H) of a prompt and SDXL's pooled one or None; -1 is the empty prompt."""
        ...


@runtime_checkable
class SharesPictures(Protocol):
    """Data whose pairs may have a picture in common."""

    def share_picture(self, index: int, other: int, /) -> bool:
        """Whether two pairs do."""
        ...


@runtime_checkable
class KnowsPeople(Protocol):
    """Data whose people are known by something else than vectors of their pairs: by a profile in words, or by name."""

    @property
    def known_width(self) -> int:
        """D of what they are known by."""
        ...

    def known_by(self, index: int, count: int, rng: random.Random, /) -> Sequence[int]:
        """Numbers of what the person of a pair is known by, worth up to `count` pairs, with nothing of that pair."""
        ...

    def known(self, number: int, /) -> Tensor:
        """(D,) what has this number."""
        ...


def support_of(data: PPDData, person: int, excluding: int, count: int, rng: random.Random) -> list[int]:
    """Draw up to `count` pairs to know a person by: never the pair they are asked about, nor one with its pictures.

    In Pick-a-Pic the picture that was chosen comes again beside a new one: who had seen that pair, too, would know the
    picture instead of the person.
    """
    if isinstance(data, KnowsPeople):
        return list(data.known_by(excluding, count, rng))
    others = [index for index in data.pairs_of(person) if index != excluding]
    if not isinstance(data, SharesPictures):
        return rng.sample(others, min(count, len(others)))
    apart = (index for index in rng.sample(others, len(others)) if not data.share_picture(index, excluding))
    return list(itertools.islice(apart, count))


@dataclass(frozen=True, eq=False)
class PreparedPPD:
    """Pairs as tables of pictures, prompts and answers, in memory or mapped into it from files.

    Attributes:
        latents: (M, C, h, w), float32 or float16.
        image_vectors: (M, D).
        rows: (N, 4) int64: chosen picture, rejected picture, prompt, person.
        conditioning: (P + 1, T, H), the empty prompt last. pooled: (P + 1, E) or None.
        names: Of the people, by their index.
        sizes: (M, 2) height and width of the pictures as they were, in pixels, for SDXL; else None.
        marks: (M,) int64, equal for what is one picture that was prepared more than once, as it comes in two shards of
            a data set; None where none was.

    Raises:
        PPDError: a person has fewer than two pairs, or a row points past a table.
    """

    latents: Tensor
    image_vectors: Tensor
    rows: Tensor
    conditioning: Tensor
    names: tuple[str, ...]
    pooled: Tensor | None = None
    sizes: Tensor | None = None
    marks: Tensor | None = None
    _order: Tensor = field(init=False, repr=False)
    _starts: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not len(self.rows) or not self.names:
            raise PPDError("Cannot train: found no pairs; expected answers of several people.")
        pictures, prompts = int(self.rows[:, :2].max()), int(self.rows[:, 2].max())
        if pictures >= len(self.latents) or prompts >= len(self.conditioning) - 1 or int(self.rows.min()) < 0:
            raise PPDError("Cannot train: a pair's picture or prompt is not among those that were prepared.")
        counts = torch.bincount(self.rows[:, 3], minlength=len(self.names))
        if len(counts) != len(self.names) or int(counts.min()) < FEWEST_PAIRS:
            raise PPDError(f"Cannot train: a person has {int(counts.min())} pairs; expected {FEWEST_PAIRS} or more.")
        object.__setattr__(self, "_order", torch.argsort(self.rows[:, 3], stable=True))
        object.__setattr__(self, "_starts", torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)]))

    @property
    def people(self) -> int:
        return len(self.names)

    def __len__(self) -> int:
        return len(self.rows)

    def pair(self, index: int) -> PPDPair:
        chosen, rejected, prompt, person = self.rows[index].tolist()
        size = None
        if self.sizes is not None:
            height, width = (8 * side for side in self.latents.shape[2:])
            size = (*self.sizes[chosen].tolist(), 0, 0, height, width)
        return PPDPair(self.latents[chosen].float(), self.latents[rejected].float(), prompt, person, size)

    def vectors(self, index: int) -> tuple[Tensor, Tensor]:
        chosen, rejected = self.rows[index, :2].tolist()
        return self.image_vectors[chosen].float(), self.image_vectors[rejected].float()

    def pairs_of(self, person: int) -> Sequence[int]:
        start, end = self._starts[person : person + 2].tolist()
        found: list[int] = self._order[start:end].tolist()
        return found

    def share_picture(self, index: int, other: int) -> bool:
        one, two = self.rows[index, :2], self.rows[other, :2]
        if self.marks is not None:
            one, two = self.marks[one], self.marks[two]
        return not set(one.tolist()).isdisjoint(two.tolist())

    def tokens(self, prompt: int) -> tuple[Tensor, Tensor | None]:
        pooled = None if self.pooled is None else self.pooled[prompt].float()
        return self.conditioning[prompt].float(), pooled

    def of(self, names: Sequence[str]) -> PreparedPPD:
        """The pairs of these people only; pictures and prompts stay where they are."""
        return replace(self, rows=rows_of(self.rows, self.names, names), names=tuple(names))


def rows_of(rows: Tensor, names: Sequence[str], wanted: Sequence[str]) -> Tensor:
    """The rows (N', 4) of some people, who are numbered by their place in `wanted`; `names` is who they were."""
    place = {name: index for index, name in enumerate(wanted)}
    person = torch.tensor([place.get(name, -1) for name in names])[rows[:, 3]]
    return torch.cat([rows[:, :3], person[:, None]], dim=1)[person >= 0]


def split_people(names: Sequence[str], share: float, seed: int) -> tuple[list[str], list[str]]:
    """Return who is trained on and who is held out; none of fewer than two.

    Each person's own hash with the seed decides, so the same people are held out whatever the order, and whoever else
    comes or goes. Where all hashes are above the share, the lowest is held out.
    """
    if len(names) < 2 or share <= 0.0:
        return sorted(names), []
    hashed = {name: int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8], "big") for name in names}
    held = sorted(name for name in names if hashed[name] < share * 2**64)
    if not held or len(held) == len(names):
        held = [min(names, key=lambda name: hashed[name])]
    return sorted(set(names) - set(held)), held
