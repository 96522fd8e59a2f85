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

__all__ = ["KNOWN", "Questions", "Reader", "new_encoder", "train_encoder"]

BATCH = 128
ASKED = 48  # pairs a person
KNOWN = (2, 4, 4, 8, 8, 16, 32, 64)  # pairs that a person is known by, in turn
RATE = 1.5e-3
_READ = 128  # width in which tokens and pictures meet


def new_encoder(width: int, image_width: int) -> PairsEncoder:
    """A fresh encoder, small enough for the playground's files."""
    return PairsEncoder(image_width, width, tokens=4, hidden=96, layers=2)


class Reader(nn.Module):
    """The encoder with what is thrown away later: it says how much a user likes what is measured in a picture.

    What it says is linear in the tokens but for a constant, so that a blend of users likes what its weights say.
    """

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


class Questions:
    """What P people say about pairs of cards of one caption."""

    def __init__(self, people: Sequence[Person], cards: Cards) -> None:
        """Take people with their noise, and the cards that they are asked about."""
        self.people = len(people)
        self._captions, self._views = cards.measured.shape[:2]
        self._measured, self._vectors = cards.measured.flatten(0, 1), cards.vectors.flatten(0, 1)
        noise = np.array([person.noise for person in people])[:, None]
        found = utilities(people, self._measured.double().numpy()) / noise
        self._utility = torch.from_numpy(found.astype(np.float32))

    def some(self, count: int, generator: torch.Generator) -> Tensor:
        """(count,) people by chance."""
        return torch.randint(self.people, (count,), generator=generator)

    def read(self, encoder: PairsEncoder, who: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """(B, K, W) tokens from `count` answers of each, with their noise."""
        left, right, odds = self._asked(who, count, generator)
        wins = torch.rand(odds.shape, generator=generator) < odds.sigmoid()
        chosen, rejected = torch.where(wins, left, right), torch.where(wins, right, left)
        tokens: Tensor = encoder(self._vectors[chosen], self._vectors[rejected])
        return tokens

    def loss(self, reader: Reader, tokens: Tensor, who: Tensor, generator: torch.Generator) -> Tensor:
        """How badly ASKED other answers of people are predicted from their tokens.

        The target of a question is the chance that the person says left, which is what infinitely many answers to it
        would show: -log likelihood of Bradley-Terry, with the coin's noise taken out.
        """
        left, right, odds = self._asked(who, ASKED, generator)
        found = reader(tokens, self._measured[left]) - reader(tokens, self._measured[right])
        return F.binary_cross_entropy_with_logits(found, odds.sigmoid())

    def _asked(self, who: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """(B, count) two cards of one caption, and the log-odds of the first."""
        shape = (len(who), count)
        caption = torch.randint(self._captions, shape, generator=generator) * self._views
        left = torch.randint(self._views, shape, generator=generator)
        right = (left + torch.randint(1, self._views, shape, generator=generator)) % self._views
        left, right = caption + left, caption + right
        return left, right, self._utility[who[:, None], left] - self._utility[who[:, None], right]


def train_encoder(encoder: PairsEncoder, questions: Questions, folder: Path, steps: int) -> Reader:
    """Train an encoder to predict people's answers from some of their others.

    Args:
        encoder: Fresh; it is in what is given back as a copy.
        questions: To ask.
        folder: For the checkpoint.
        steps: Of the optimiser.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        reader = Reader(encoder)

    def step_loss(rng: random.Random, generator: torch.Generator) -> Tensor:
        who = questions.some(BATCH, generator)
        tokens = questions.read(reader.encoder, who, rng.choice(KNOWN), generator)
        return questions.loss(reader, tokens, who, generator)

    trained = train("ppd-encoder", reader, step_loss, steps=steps, learning_rate=RATE, folder=folder)
    assert isinstance(trained, Reader)
    return trained
