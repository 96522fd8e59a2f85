"""Training the playground's CLIP: pictures and captions into one space."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ..captions import named_in, sample_caption
from ..world import DIRECTIONS, NAMED, PERIODS, Card
from .cards import POOL, as_images, card_pool
from .loop import train
from .models import EMBEDDING, new_clip

__all__ = ["clip_pixels", "small", "train_clip", "truth"]

STEPS = 1800
BATCH = 96
TOKENS = 28  # the longest caption has 25; attention is causal, so what follows the caption's end changes nothing


class _WithHeads(nn.Module):
    """CLIP, and linear readers that are thrown away afterwards.

    They read from an embedding what the card is like, from the picture's also what captions never name: a taste is
    learned on these embeddings, and can only care for what they hold.
    """

    def __init__(self, clip: nn.Module) -> None:
        super().__init__()
        self.clip = clip
        sizes = {name: len(values) for name, values in NAMED.items()}
        unnamed = {"sticker": 2, "frame": 2, "shaded": 2, "period": len(PERIODS), "direction": len(DIRECTIONS)}
        self.of_text = nn.ModuleDict({name: nn.Linear(EMBEDDING, size) for name, size in sizes.items()})
        self.of_image = nn.ModuleDict({name: nn.Linear(EMBEDDING, size) for name, size in (sizes | unnamed).items()})
        self.tilt = nn.Linear(EMBEDDING, 1)


def _classes(card: Card) -> dict[str, int]:
    classes = {name: values.index(getattr(card, name)) for name, values in NAMED.items()}
    classes |= {name: int(getattr(card, name)) for name in ("sticker", "frame", "shaded")}
    # A plain card shows neither period nor direction, and only stripes show a direction; -1 is not asked for.
    classes["period"] = PERIODS.index(card.period) if card.pattern != "plain" else -1
    classes["direction"] = DIRECTIONS.index(card.direction) if card.pattern == "striped" else -1
    return classes


def truth(cards: Sequence[Card], captions: Sequence[str]) -> torch.Tensor:
    """(captions, cards) of bool: which caption is true of which card; several may be."""
    values = [tuple(named_in(text).items()) for text in captions]
    return torch.tensor([[all(getattr(card, n) == v for n, v in said) for card in cards] for said in values])


def small(cards: Sequence[Card]) -> torch.Tensor:
    """Draw cards at the image tower's size: (N, 3, 64, 64) in [-1, 1]."""
    return F.interpolate(as_images(cards), 64, mode="area")


def clip_pixels(images: torch.Tensor) -> torch.Tensor:
    """Pictures in [-1, 1] with CLIP's mean and deviation, as the image tower takes them."""
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
    deviation = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
    return ((images + 1) / 2 - mean) / deviation


def train_clip(folder: Path, tokenizer: Any) -> Any:
    """Train both towers on random cards and captions, from scratch.

    CLIP's symmetric loss, except that a caption's target is spread over all cards of the batch that it is true of: a
    caption that names one property is true of many.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        model = _WithHeads(new_clip())
    pool = card_pool()
    drawn = torch.cat([small(pool[start : start + 100]) for start in range(0, POOL, 100)])

    def step_loss(rng: random.Random, generator: torch.Generator) -> torch.Tensor:
        picked = rng.sample(range(POOL), BATCH)
        cards = [pool[k] for k in picked]
        captions = [sample_caption(card, rng) for card in cards]
        ids = tokenizer(captions, padding="max_length", max_length=TOKENS, return_tensors="pt")["input_ids"]
        pixels = clip_pixels(drawn[picked])
        if rng.random() < 0.5:  # generated pictures are a little softer than drawn ones
            soft = F.interpolate(F.interpolate(pixels, 40, mode="bilinear"), 64, mode="bilinear")
            pixels = pixels.lerp(soft, rng.random())
        pixels = pixels + 0.05 * torch.randn(pixels.shape, generator=generator)
        clip: Any = model.clip
        image = clip.visual_projection(clip.vision_model(pixel_values=pixels).pooler_output)
        text = clip.text_projection(clip.text_model(input_ids=ids).pooler_output)
        scale = clip.logit_scale.exp().clamp(max=100.0)
        logits = scale * F.normalize(text, dim=-1) @ F.normalize(image, dim=-1).T
        true = truth(cards, captions).float()
        loss = F.cross_entropy(logits, true / true.sum(1, keepdim=True))
        loss = loss + F.cross_entropy(logits.T, true.T / true.T.sum(1, keepdim=True))

        classes = [_classes(card) for card in cards]
        said = [named_in(caption) for caption in captions]
        for name, head in model.of_image.items():
            target = torch.tensor([values[name] for values in classes])
            loss = loss + 0.25 * F.cross_entropy(head(image), target, ignore_index=-1)
        for name, head in model.of_text.items():
            target = torch.tensor([NAMED[name].index(s[name]) if name in s else -1 for s in said])
            if (target >= 0).any():
                loss = loss + 0.25 * F.cross_entropy(head(text), target, ignore_index=-1)
        tilts = torch.tensor([card.tilt / 12 for card in cards])
        return loss + 0.25 * F.mse_loss(model.tilt(image)[:, 0], tilts)

    average: Any = train("clip", model, step_loss, steps=STEPS, learning_rate=1e-3, folder=folder, averaging=0.995)
    return average.clip
