"""The playground's user encoder before it meets a denoiser: it learns to tell from answers what somebody likes.

No picture is made for this, so thousands of steps take minutes. What is left for the training with the denoiser is what
to do about a taste, not how to read one.

Shapes: B people of a step, N pairs to know them by, M pairs to ask them about, P people, K captions, V cards of each, F
features.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...ppd.pairs_encoder import PairsEncoder
from ..people import FEATURES, Person
from .loop import train
from .ppd_cards import Cards, utilities

__all__ = ["KNOWN", "new_encoder", "train_encoder"]

BATCH = 128
ASKED = 48  # pairs a person
KNOWN = (2, 4, 4, 8, 8, 16, 32, 64)  # pairs that a person is known by, in turn
RATE = 1.5e-3
_READ = 128  # width in which tokens and pictures meet


def new_encoder(width: int, image_width: int) -> PairsEncoder:
    """A fresh encoder, small enough for the playground's files."""
    return PairsEncoder(image_width, width, tokens=4, hidden=96, layers=2)


class _Reader(nn.Module):
    """The encoder with what is thrown away later: it says how much a user likes what is measured in a picture."""

    def __init__(self, encoder: PairsEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        count = len(FEATURES)
        self.bent = nn.Sequential(nn.Linear(count, 192), nn.GELU(), nn.Linear(192, _READ))
        self.straight = nn.Linear(count, _READ)
        self.user = nn.Linear(encoder.tokens * encoder.width, _READ)

    def forward(self, tokens: Tensor, measured: Tensor) -> Tensor:
        """(B, M) utility of pictures (B, M, F) to users (B, K, W)."""
        seen = self.bent(measured) + self.straight(measured)
        utility: Tensor = (self.user(tokens.flatten(1))[:, None] * seen).sum(-1) / 8
        return utility


def train_encoder(
    encoder: PairsEncoder, people: Sequence[Person], cards: Cards, folder: Path, steps: int
) -> PairsEncoder:
    """Train an encoder to predict people's answers from some of their others.

    The target of a question is the chance that the person says left, which is what infinitely many answers to it
    would show: -log likelihood of Bradley-Terry, with the coin's noise taken out.

    Args:
        encoder: Fresh; a copy of it is given back.
        people: P, with their noise.
        cards: That they are asked about.
        folder: For the checkpoint.
        steps: Of the optimiser.
    """
    captions, views = cards.measured.shape[:2]
    measured, vectors = cards.measured.flatten(0, 1), cards.vectors.flatten(0, 1)
    noise = np.array([person.noise for person in people])[:, None]
    utility = torch.from_numpy((utilities(people, measured.double().numpy()) / noise).astype(np.float32))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        reader = _Reader(encoder)

    def asked(who: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """(B, count) two cards of one caption, and the log-odds of the first."""
        shape = (len(who), count)
        caption = torch.randint(captions, shape, generator=generator) * views
        left = torch.randint(views, shape, generator=generator)
        right = (left + torch.randint(1, views, shape, generator=generator)) % views
        left, right = caption + left, caption + right
        return left, right, utility[who[:, None], left] - utility[who[:, None], right]

    def step_loss(rng: random.Random, generator: torch.Generator) -> Tensor:
        who = torch.randint(len(people), (BATCH,), generator=generator)
        left, right, odds = asked(who, rng.choice(KNOWN), generator)
        wins = torch.rand(odds.shape, generator=generator) < odds.sigmoid()
        chosen, rejected = torch.where(wins, left, right), torch.where(wins, right, left)
        tokens = reader.encoder(vectors[chosen], vectors[rejected])
        left, right, odds = asked(who, ASKED, generator)
        found = reader(tokens, measured[left]) - reader(tokens, measured[right])
        return F.binary_cross_entropy_with_logits(found, odds.sigmoid())

    trained = train("ppd-encoder", reader, step_loss, steps=steps, learning_rate=RATE, folder=folder)
    assert isinstance(trained, _Reader)
    return trained.encoder
