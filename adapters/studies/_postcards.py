"""Drawn postcards made ready for training: latents, vectors and conditioning, each once, and answers about their pairs.

Drawn postcards are what the playground's denoiser was trained on, so pairs need no sampling.

Shapes: K captions, V postcards of each, N answers, C channels, h and w of latents, T tokens, H width of the
conditioning, D joint width, F features that people may care for.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from ..finetune.losses import pair_embedding
from ..finetune.prepared import Prepared
from ..playground.captions import caption_of, sample_names
from ..playground.people import Person, features, noise_of
from ..playground.world import draw, random_card
from ..steering import Generator
from ._styles import STYLES
from ._tables import Array

__all__ = [
    "Answers",
    "Postcards",
    "answered",
    "calibrated_on",
    "draw_postcards",
    "embeddings_between",
    "embeddings_of",
    "flipped",
    "pairs_between",
    "pairs_of",
]

_BATCH = 16  # pictures
_VERSION = 1  # of the files in the cache


@dataclass(frozen=True, eq=False)
class Postcards:
    """V postcards of each of K captions; what the caption names is the same in all, the rest varies.

    Attributes:
        captions: K.
        latents: (K, V, C, h, w), scaled as the denoiser takes them.
        vectors: (K, V, D) of the pictures and texts (K, D) of the captions, by the model's CLIP, unit norm.
        tokens: (K + 1, T, H) conditioning of the captions, of the empty one last.
        measured: (K, V, F) from the pixels, in the order of FEATURES; F is 0 for those in a style.
    """

    captions: tuple[str, ...]
    latents: Tensor
    vectors: Tensor
    texts: Tensor
    tokens: Tensor
    measured: Array


@dataclass(frozen=True, eq=False)
class Answers:
    """N answers about two postcards of one caption.

    Attributes:
        caption, chosen, rejected: (N,) places.
        truth: (N,) true log-odds of chosen over rejected, below 0 where the answer is against true utility.
        planted: (N,) whether the answer was turned over after it was given.
    """

    caption: npt.NDArray[np.int64]
    chosen: npt.NDArray[np.int64]
    rejected: npt.NDArray[np.int64]
    truth: Array
    planted: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.caption)

    def __getitem__(self, rows: slice | npt.NDArray[np.int64]) -> Answers:
        return Answers(*(value[rows] for value in vars(self).values()))


def draw_postcards(
    generator: Generator, captions: int, seed: int, views: int = 4, cache: Path | None = None, style: str = ""
) -> Postcards:
    """Draw, measure and encode; from the cache's folder where they were made before.

    Args:
        generator: Whose autoencoder, text side and CLIP are used.
        captions: K. views: V.
        seed: The same seed draws the same cards, and the first of many captions are those of few.
        cache: Folder, or None.
        style: A name in `STYLES` that all are drawn in, the same cards of the same seed; "" is the world's own.
    """
    assert generator.encoder is not None
    key = f"{_VERSION}/{captions}/{views}/{seed}/{generator.encoder.identity}/{generator.name}"
    key += f"/{style}" if style else ""
    file = None if cache is None else cache / f"postcards-{hashlib.sha256(key.encode()).hexdigest()[:16]}.pt"
    if file is not None and file.is_file():
        found = torch.load(file, map_location="cpu", weights_only=True)
        latents, vectors, said, tokens = found["tensors"]
        return Postcards(tuple(found["captions"]), latents, vectors, said, tokens, found["measured"].double().numpy())
    rng, texts, drawn = random.Random(f"postcards/{seed}"), [], STYLES[style].draw if style else draw
    pictures: list[Image.Image] = []
    for _ in range(captions):
        card, names = random_card(rng), sample_names(rng)
        named = {name: value for name, value in card.named().items() if name in names}
        texts.append(caption_of(card, names))
        pictures.extend(drawn(random_card(rng, **named)) for _ in range(views))
    with torch.no_grad():
        tokens = torch.cat([generator.conditioner.plain(text).tokens[:, :77] for text in [*texts, ""]]).cpu()
    latents = _latents(generator._pipeline.vae, pictures)
    latents = latents.reshape(captions, views, *latents.shape[1:])
    vectors = generator.encoder.encode_images(pictures).reshape(captions, views, -1)
    said = generator.encoder.encode_texts(texts)
    # A picture in a style is read as one, not measured as a postcard.
    seen = [np.zeros(0) if style else features(picture) for picture in pictures]
    measured = np.stack(seen).reshape(captions, views, seen[0].size)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        tensors = (latents, vectors, said, tokens)
        torch.save({"captions": texts, "tensors": tensors, "measured": torch.from_numpy(measured)}, file)
    return Postcards(tuple(texts), latents, vectors, said, tokens, measured)


def _latents(vae: Any, pictures: Sequence[Image.Image]) -> Tensor:
    found = []
    for start in range(0, len(pictures), _BATCH):
        part = np.stack([np.asarray(picture, np.float32) for picture in pictures[start : start + _BATCH]])
        pixels = torch.from_numpy(part / 127.5 - 1.0).permute(0, 3, 1, 2).to(vae.device)
        with torch.no_grad():
            mean = vae.encode(pixels).latent_dist.mean.float().cpu()
        found.append((mean - (vae.config.get("shift_factor") or 0.0)) * vae.config.scaling_factor)
    return torch.cat(found)


def calibrated_on(person: Person, cards: Postcards) -> Person:
    """The person with the noise at which true utility agrees with AGREEMENT of the answers within captions."""
    utility = _utility(person, cards)
    first, second = np.triu_indices(utility.shape[1], 1)
    return replace(person, noise=noise_of(np.abs(utility[:, first] - utility[:, second]).reshape(-1)))


def answered(person: Person, cards: Postcards, count: int, rng: random.Random) -> Answers:
    """A person's answers about random pairs of one caption; none is asked twice as long as there are others."""
    utility = _utility(person, cards) / person.noise
    captions, views = utility.shape
    pairs = [(c, a, b) for c in range(captions) for a in range(views) for b in range(a)]
    asked = rng.sample(pairs, count) if count <= len(pairs) else rng.choices(pairs, k=count)
    rows = []
    for place, left, right in asked:
        gap = utility[place, left] - utility[place, right]
        left_wins = rng.random() < 1.0 / (1.0 + np.exp(-np.clip(gap, -500.0, 500.0)))
        rows.append((place, left, right) if left_wins else (place, right, left))
    caption, chosen, rejected = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    truth = utility[caption, chosen] - utility[caption, rejected]
    return Answers(caption, chosen, rejected, truth, np.zeros(len(rows), dtype=bool))


def flipped(answers: Answers, rate: float, seed: int) -> Answers:
    """The answers with a share turned over, fixed by index: those of a low rate are among those of a high one."""
    turned = np.zeros(len(answers), dtype=bool)
    turned[np.random.default_rng([seed, len(answers)]).permutation(len(answers))[: round(rate * len(answers))]] = True
    return Answers(
        answers.caption,
        np.where(turned, answers.rejected, answers.chosen),
        np.where(turned, answers.chosen, answers.rejected),
        np.where(turned, -answers.truth, answers.truth),
        answers.planted ^ turned,
    )


def pairs_of(cards: Postcards, answers: Answers) -> Prepared:
    """What a training takes."""
    return pairs_between(cards, cards, answers)


def pairs_between(liked: Postcards, others: Postcards, answers: Answers) -> Prepared:
    """The same where the chosen ones are of one set and the rejected ones of another, of the same captions."""
    chosen, rejected = liked.latents[answers.caption, answers.chosen], others.latents[answers.caption, answers.rejected]
    return Prepared(tuple(chosen), tuple(rejected), tuple(int(place) for place in answers.caption), liked.tokens)


def embeddings_of(cards: Postcards, answers: Answers) -> tuple[Tensor, Tensor]:
    """(N, 2 D) of the chosen and of the rejected pictures with their captions, for `rpo`."""
    return embeddings_between(cards, cards, answers)


def embeddings_between(liked: Postcards, others: Postcards, answers: Answers) -> tuple[Tensor, Tensor]:
    """The same of two sets, as `pairs_between` has them."""
    texts = liked.texts[answers.caption]
    chosen, rejected = liked.vectors[answers.caption, answers.chosen], others.vectors[answers.caption, answers.rejected]
    return pair_embedding(chosen, texts), pair_embedding(rejected, texts)


def _utility(person: Person, cards: Postcards) -> Array:
    """(K, V)."""
    return np.array([[person.utility(view) for view in views] for views in cards.measured])
