"""Prepared pairs of people who are known by name, or by profiles in words, instead of by the vectors of their pairs.

Shapes: N pairs, R people, S states of a profile, H their width.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ..errors import PPDError
from .data import PPDPair, PreparedPPD

__all__ = ["PAIRS_A_PROFILE", "DescribedPeople", "NamedPeople", "chunks_of", "split_pairs"]

PAIRS_A_PROFILE = 4  # the paper's


@dataclass(frozen=True, eq=False)
class NamedPeople:
    """Some pairs of people, or rewards, each of whom has tokens of their own: `LearnedTokens`.

    Attributes:
        all: The pairs of everybody. rows: Which of them are meant, by their index there.
    """

    all: PreparedPPD
    rows: tuple[int, ...]

    @property
    def people(self) -> int:
        return self.all.people

    @property
    def names(self) -> tuple[str, ...]:
        return self.all.names

    @property
    def known_width(self) -> int:
        return self.people

    def __len__(self) -> int:
        return len(self.rows)

    def pair(self, index: int) -> PPDPair:
        return self.all.pair(self.rows[index])

    def vectors(self, index: int) -> tuple[Tensor, Tensor]:
        return self.all.vectors(self.rows[index])

    def pairs_of(self, person: int) -> Sequence[int]:
        own = set(self.all.pairs_of(person))
        return [index for index, row in enumerate(self.rows) if row in own]

    def tokens(self, prompt: int) -> tuple[Tensor, Tensor | None]:
        return self.all.tokens(prompt)

    def known_by(self, index: int, count: int, rng: random.Random) -> Sequence[int]:
        return [self.pair(index).person]

    def known(self, number: int) -> Tensor:
        """(R,) the row that stands for a person."""
        return torch.nn.functional.one_hot(torch.tensor(number), self.people).float()


@dataclass(frozen=True, eq=False)
class DescribedPeople:
    """Pairs of people whom a vision-language model described, a few of their pairs at a time.

    Attributes:
        pairs: The pairs.
        profiles: Files of the profiles' states. rows: For each, the pairs that it was made from.
        shape: (S, H) of the states.
    """

    pairs: PreparedPPD
    profiles: tuple[Path, ...]
    rows: tuple[tuple[int, ...], ...]
    shape: tuple[int, int]
    _own: dict[int, list[int]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        own: dict[int, list[int]] = {}
        for number, rows in enumerate(self.rows):
            own.setdefault(int(self.pairs.rows[rows[0], 3]), []).append(number)
        object.__setattr__(self, "_own", own)

    @property
    def people(self) -> int:
        return self.pairs.people

    @property
    def names(self) -> tuple[str, ...]:
        return self.pairs.names

    @property
    def known_width(self) -> int:
        return self.shape[0] * self.shape[1]

    def __len__(self) -> int:
        return len(self.pairs)

    def pair(self, index: int) -> PPDPair:
        return self.pairs.pair(index)

    def vectors(self, index: int) -> tuple[Tensor, Tensor]:
        return self.pairs.vectors(index)

    def pairs_of(self, person: int) -> Sequence[int]:
        return self.pairs.pairs_of(person)

    def tokens(self, prompt: int) -> tuple[Tensor, Tensor | None]:
        return self.pairs.tokens(prompt)

    def known_by(self, index: int, count: int, rng: random.Random) -> Sequence[int]:
        own = self._own.get(self.pair(index).person, [])
        apart = [number for number in own if not any(self._touches(row, index) for row in self.rows[number])]
        return rng.sample(apart, min(len(apart), max(1, count // PAIRS_A_PROFILE)))

    def _touches(self, row: int, index: int) -> bool:
        return row == index or self.pairs.share_picture(row, index)

    def known(self, number: int) -> Tensor:
        """(S * H,) the states of a profile.

        Raises:
            PPDError: its file is gone or damaged since the training began.
        """
        from safetensors import SafetensorError, safe_open

        file = self.profiles[number]
        try:
            with safe_open(str(file), framework="pt", device="cpu") as opened:
                states: Tensor = opened.get_tensor("states")
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise PPDError(
                f"Cannot read the profile {file.name}: {error}; expected what was prepared. Delete it and start the "
                "training again: it is made anew."
            ) from error
        return states.float().flatten()


def chunks_of(data: PreparedPPD, most: int, seed: int = 0) -> list[tuple[int, ...]]:
    """Cut each person's pairs into chunks that share none, of four or, so that there are two at least, of fewer.

    A pair is trained on with profiles that it has no part in: who has one profile only has none for its own pairs.

    Args:
        data: N pairs.
        most: Chunks of a person at most.
        seed: Same seed and same pairs of a person, same chunks, whoever else is there.
    """
    chunks: list[tuple[int, ...]] = []
    for person in range(data.people):
        rows = list(data.pairs_of(person))
        size = max(1, min(PAIRS_A_PROFILE, len(rows) // 2))
        order = random.Random(f"{seed}/{data.names[person]}").sample(rows, len(rows))
        starts = range(0, len(order) - size + 1, size)
        chunks += [tuple(order[start : start + size]) for start in starts][:most]
    return chunks


def split_pairs(data: PreparedPPD, share: float, seed: int) -> tuple[NamedPeople, NamedPeople | None]:
    """Return pairs to train on and pairs held out, of the same people; none of fewer than four of a person.

    Each pair's own hash with the seed decides. What shares a picture with a pair that is held out is in neither.
    """
    pictures = data.rows[:, :2] if data.marks is None else data.marks[data.rows[:, :2]]
    trained, held = list[int](), list[int]()
    for person in range(data.people):
        rows = list(data.pairs_of(person))
        chance = {row: _chance(seed, data.names[person], pictures[row].tolist()) for row in rows}
        away = sorted(rows, key=lambda row: chance[row])[: round(share * len(rows)) or (len(rows) >= 4 and share > 0)]
        shown = {picture for row in away for picture in pictures[row].tolist()}
        rest = [row for row in rows if shown.isdisjoint(pictures[row].tolist())]
        if rest:
            trained, held = trained + rest, held + away
        else:
            trained += rows
    return NamedPeople(data, tuple(trained)), NamedPeople(data, tuple(held)) if held else None


def _chance(seed: int, name: str, pictures: Sequence[int]) -> bytes:
    return hashlib.sha256(f"{seed}/{name}/{pictures}".encode()).digest()
