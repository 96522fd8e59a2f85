"""Postcards and what each would be with one property changed: what a denoiser is taught about people's tastes on.

Shapes: K captions, V cards of each, F features that people may care for, C channels, h and w of latents.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..captions import caption_of, sample_names
from ..people import features
from ..world import DIRECTIONS, NAMED, PERIODS, TILT, UNNAMED, Card, draw, held_out, random_card
from .cards import as_images

__all__ = ["Changes", "changed_cards", "draw_changes"]

VIEWS = 24
_OPEN = (*NAMED, *UNNAMED)
_OPENINGS = ("", "a postcard of ", "a picture of ")


@dataclass(frozen=True, eq=False)
class Changes:
    """One card of each of K captions, and the same with one property changed that the caption leaves open.

    Attributes:
        captions: K.
        latents: (K, V, C, h, w) at a standard deviation of 1; the card itself first.
        measured: (K, V, F) from the pixels, in the order of FEATURES.
        changed: (K, V) which property, by its place; -1 for the card itself, which is repeated where too few changes
            are left.
        tokens: (K, 77, H) conditioning.
    """

    captions: tuple[str, ...]
    latents: Tensor
    measured: Tensor
    changed: Tensor
    tokens: Tensor

    @classmethod
    def joined(cls, parts: Sequence[Changes]) -> Changes:
        """Several, one after the other."""
        columns = [
            torch.cat([getattr(p, name) for p in parts]) for name in ("latents", "measured", "changed", "tokens")
        ]
        return cls(tuple(text for part in parts for text in part.captions), *columns)


def draw_changes(generator: Any, captions: int, shard: int = 0, folder: Path | None = None) -> Changes:
    """Draw, measure and encode; from the folder where they were made before.

    Args:
        generator: A `Generator` of the playground: whose autoencoder and text side are used.
        captions: K.
        shard: Other cards for each, so that several processes can draw.
        folder: For a file of them, or None.
    """
    file = None if folder is None else folder / f"ppd-changes-{shard}-{captions}.pt"
    if file is not None and file.is_file():
        return Changes(**torch.load(file, weights_only=True))
    rng, texts, rows, vae = random.Random(f"ppd/changes/{shard}"), [], [], generator._pipeline.vae
    for _ in range(captions):
        card = next(card for card in iter(lambda: random_card(rng), None) if not held_out(card))
        names = sample_names(rng)
        texts.append(caption_of(card, names, rng.choice(_OPENINGS)))
        views = changed_cards(card, names, rng)
        found = np.stack([features(draw(view)) for view, _ in views])
        with torch.no_grad():
            latents = vae.encode(as_images([view for view, _ in views])).latent_dist.mean * vae.config.scaling_factor
        short = [0] * (VIEWS - len(views))
        order = [*range(len(views)), *short]
        changed = [place for _, place in views] + [-1 for _ in short]
        rows.append((latents[order].half(), torch.from_numpy(found).float()[order], torch.tensor(changed)))
    columns = [torch.stack(column) for column in zip(*rows, strict=True)]
    with torch.no_grad():
        tokens = torch.cat([generator.conditioner.plain(text).tokens for text in texts])
    changes = Changes(tuple(texts), columns[0], columns[1], columns[2], tokens)
    if file is not None:
        torch.save(vars(changes), file)
    return changes


def changed_cards(card: Card, names: Sequence[str], rng: random.Random) -> list[tuple[Card, int]]:
    """The card and at most VIEWS - 1 others, none held out: each with the place of what was changed, -1 for none.

    Args:
        card: Any.
        names: What its caption names, and so stays.
        rng: Chooses which other values are shown where there are too many.
    """
    left = {name: _others(card, name, rng) for name in _OPEN if name not in names}
    found = [(card, -1)]
    while left and len(found) < VIEWS:
        for name in list(left):
            if not left[name]:
                del left[name]
                continue
            changed = replace(card, **{name: left[name].pop()})
            if not held_out(changed) and len(found) < VIEWS:
                found.append((changed, _OPEN.index(name)))
    return found


def _others(card: Card, name: str, rng: random.Random) -> list[Any]:
    """Other values of a property than the card's, in random order."""
    values: dict[str, Sequence[Any]] = {
        **NAMED,
        "tilt": [rng.uniform(-TILT, TILT) for _ in range(2)],
        "sticker": (False, True),
        "frame": (False, True),
        "shaded": (False, True),
        "period": PERIODS,
        "direction": DIRECTIONS,
    }
    others = [value for value in values[name] if value != getattr(card, name)]
    rng.shuffle(others)
    return others
