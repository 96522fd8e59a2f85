"""Batches of pairs with the pairs that their people are known by, and the denoiser that is told of these people.

Shapes: B pairs, S support pairs of each at most, D width of the image vectors, K tokens of a user, W their width.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..finetune.losses import PairErrors
from ..finetune.noising import Noising
from ..finetune.prepared import Batch
from ..finetune.step import Denoiser
from .data import KnowsPeople, PPDData, PPDPair, support_of

__all__ = ["PersonalBatch", "PersonalDenoiser", "Queries", "batch_of", "spread_queries"]


@dataclass(frozen=True, eq=False)
class PersonalBatch:
    """B pairs, and what is known of the people who answered them.

    Attributes:
        pairs: As the denoiser takes them.
        liked, disliked: (B, S, D) image vectors of the support pairs' chosen and rejected pictures.
        mask: (B, S), False where a person has fewer of them. A row without any is the average user.
    """

    pairs: Batch
    liked: Tensor
    disliked: Tensor
    mask: Tensor

    @property
    def chosen(self) -> Tensor:
        """(B, C, h, w)."""
        return self.pairs.chosen


def batch_of(
    data: PPDData,
    rows: Sequence[int],
    support: Sequence[Sequence[int]],
    device: torch.device,
    uncaptioned: Sequence[bool] = (),
) -> PersonalBatch:
    """Gather B pairs.

    Args:
        data: Where from.
        rows: Their indices.
        support: For each, the indices of the pairs that its person is known by, or as `support_of` gives them.
        device: Where the denoiser computes.
        uncaptioned: B of them, True where the prompt is left out; empty for none.
    """
    pairs = [PPDPair(*data.pair(row)) for row in rows]
    prompts = [-1 if uncaptioned and uncaptioned[k] else pair.prompt for k, pair in enumerate(pairs)]
    said = [data.tokens(prompt) for prompt in prompts]
    pooled = [vector for _, vector in said if vector is not None]
    sizes = [pair.size for pair in pairs if pair.size is not None]
    batch = Batch(
        torch.stack([pair.chosen for pair in pairs]).float().to(device),
        torch.stack([pair.rejected for pair in pairs]).float().to(device),
        torch.stack([tokens for tokens, _ in said]).float().to(device),
        torch.stack(pooled).float().to(device) if pooled else None,
        torch.tensor(sizes, device=device) if sizes else None,
    )
    width = data.known_width if isinstance(data, KnowsPeople) else data.vectors(rows[0])[0].shape[-1]
    most = max(1, *(len(known) for known in support))
    sides, mask = torch.zeros(2, len(rows), most, width), torch.zeros(len(rows), most, dtype=torch.bool)
    for place, known in enumerate(support):
        for number, index in enumerate(known):
            if isinstance(data, KnowsPeople):
                sides[0, place, number] = data.known(index)
            else:
                sides[0, place, number], sides[1, place, number] = data.vectors(index)
            mask[place, number] = True
    return PersonalBatch(batch, sides[0].to(device), sides[1].to(device), mask.to(device))


class PersonalDenoiser:
    """A denoiser with a user branch on it; the reference is the same one with the branch off."""

    def __init__(self, denoiser: Denoiser, encoder: Any, branch: Any) -> None:
        """`encoder` is the PPD's UserEncoder, `branch` what `user_branch` gives."""
        self._denoiser, self._encoder, self._branch, self._nobody = denoiser, encoder, branch, False

    @property
    def unet(self) -> Any:
        return self._denoiser.unet

    @property
    def device(self) -> torch.device:
        return self._denoiser.device

    @property
    def noising(self) -> Noising:
        return self._denoiser.noising

    @contextlib.contextmanager
    def nobody(self) -> Iterator[None]:
        """The reference in the model's place, as it is without anybody, while this lasts."""
        self._nobody = True
        try:
            yield
        finally:
            self._nobody = False

    def errors(self, batch: PersonalBatch, noise: Tensor, timesteps: Tensor, with_reference: bool) -> PairErrors:
        """Errors of both sides of each pair, in one forward pass, given its person; and the reference's.

        The tokens stay on the branch until `forget`: checkpointed activations are computed again with them.
        """
        reference = None
        if with_reference:
            self._branch.tokens = None
            with torch.no_grad():
                reference = self._denoiser.errors(batch.pairs, noise, timesteps, False)
        # (2 B, K, W): the same person for both sides.
        known = None if self._nobody else self._encoder(batch.liked, batch.disliked, batch.mask).repeat(2, 1, 1)
        self._branch.tokens = known
        found = self._denoiser.errors(batch.pairs, noise, timesteps, False)
        if reference is None:
            return found
        return PairErrors(found.chosen, found.rejected, reference.chosen, reference.rejected)

    def forget(self) -> None:
        """Have nobody on the branch: for whoever uses the denoiser between two batches."""
        self._branch.tokens = None


class Queries:
    """Held-out pairs to judge by, each with its support: the same ones at every look.

    Attributes:
        rows: N indices of the pairs; those whose person has no other pair to be known by are left out.
        people: (N,) who answered each.
    """

    def __init__(self, data: PPDData, rows: Sequence[int], support: int, seed: int) -> None:
        self._data, self.rows, self._support, people = data, list[int](), list[list[int]](), list[int]()
        for row in rows:
            person = PPDPair(*data.pair(row)).person
            known = support_of(data, person, row, support, random.Random(f"{seed}/{row}"))
            if known:
                self.rows.append(row)
                self._support.append(known)
                people.append(person)
        self.people = torch.tensor(people)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def chosen(self) -> Sequence[Tensor]:
        """N latents (C, h, w)."""
        return [PPDPair(*self._data.pair(row)).chosen for row in self.rows]

    def batch(self, indices: Sequence[int], device: torch.device) -> PersonalBatch:
        """The pairs at these places of `rows`."""
        return batch_of(self._data, [self.rows[k] for k in indices], [self._support[k] for k in indices], device)


def spread_queries(data: PPDData, most: int, seed: int) -> list[int]:
    """Pick up to `most` pairs, as evenly over the people as they have them, always the same ones."""
    rng = random.Random(seed)
    own = [rng.sample(list(data.pairs_of(person)), len(data.pairs_of(person))) for person in range(data.people)]
    rng.shuffle(own)
    rounds = max(len(rows) for rows in own)
    dealt = [rows[k] for k in range(rounds) for rows in own if k < len(rows)]
    return sorted(dealt[:most])
