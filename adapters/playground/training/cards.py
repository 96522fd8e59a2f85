"""Cards for training: never one that is held out, drawn as tensors."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import torch

from ..world import Card, draw, held_out, random_card

__all__ = ["POOL", "as_images", "card_pool", "held_out_cards", "training_cards"]

POOL = 12_000


def training_cards(rng: random.Random, count: int) -> list[Card]:
    """Cards whose subject, colour and background may be trained on."""
    return _cards(rng, count, False)


def card_pool() -> list[Card]:
    """The POOL cards that CLIP and the denoiser train on: drawing fresh ones each step would cost half the time."""
    return training_cards(random.Random("pool"), POOL)


def held_out_cards(seed: int, count: int) -> list[Card]:
    """Cards whose subject, colour and background were never trained on together."""
    return _cards(random.Random(f"test/{seed}"), count, True)


def _cards(rng: random.Random, count: int, kept_away: bool) -> list[Card]:
    cards: list[Card] = []
    while len(cards) < count:
        card = random_card(rng)
        if held_out(card) == kept_away:
            cards.append(card)
    return cards


def as_images(cards: Sequence[Card]) -> torch.Tensor:
    """Draw cards: (N, 3, 128, 128) in [-1, 1]."""
    pixels = np.stack([np.asarray(draw(card)) for card in cards])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
