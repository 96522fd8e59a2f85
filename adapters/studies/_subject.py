"""A subject that the base never saw, learned from five pictures: which way shows it, keeps the prompt and the class?

The subject is one of the world's silhouettes in two colours, as no postcard's is, called "sks" as DreamBooth's are.

Shapes: K prompts with the subject, and as many of its class without it.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..finetune.prepared import Prepared, latents_of
from ..playground.captions import caption_of
from ..playground.shapes import SUBJECTS
from ..playground.world import draw, random_card
from ._bench import cache_of, settings_of
from ._gains import kept_of
from ._painter import Seen
from ._styled import through_autoencoder
from ._styles import STYLES, SUBJECT
from ._tables import with_interval
from ._tuning import Tuned, Workshop

__all__ = ["DRAWN", "SUBJECT_ARMS", "Shown", "SubjectBench", "subject_rows"]

_CLASS_KEPT = "class kept"
SUBJECT_ARMS = ("DreamBooth", f"DreamBooth, {_CLASS_KEPT}", "MaPO, liked alone", "DPO, liked alone")
DRAWN = "drawn ones"  # not a training: what can be seen at most
_CALLED = "sks"
_PICTURES = 5
_NAMES = ("subject", "background", "place")  # what prompts name
_EVEN = 0.3  # share of a picture that shows both colours; a drawn heart, wide above, has 0.65
_LOSSES = {"MaPO, liked alone": "mapo", "DPO, liked alone": "dpo"}


@dataclass(frozen=True)
class Shown:
    """Shares of pictures, each in [0, 1].

    Attributes:
        subject: Of prompts with the subject: its silhouette in its two colours. kept: All that these prompts name.
        leaked: Of prompts of the class alone: pictures that show it all the same. class_kept: What they name.
    """

    subject: float
    kept: float
    leaked: float
    class_kept: float


class SubjectBench:
    """One subject, its five pictures and the model's own.

    DreamBooth is plain training on the five; with the class kept, half of what it sees are the model's own pictures of
    the class without the subject (Ruiz et al. 2022, arXiv:2208.12242, equation 2 with lambda = 1). The others know the
    five as chosen pictures, and as rejected ones what the model made of the same prompts (`palate train lora --liked`).
    """

    def __init__(self, workshop: Workshop, number: int, options: argparse.Namespace) -> None:
        self._number, self._options = number, options
        self.subject = list(SUBJECTS)[number % len(SUBJECTS)]
        generator, rng = workshop.generator, random.Random(f"subject/{options.seed}/{number}")
        drawn = [random_card(rng, subject=self.subject) for _ in range(_PICTURES + options.prompts)]
        plain = [caption_of(card, _NAMES) for card in drawn]
        called = [text.replace(self.subject, f"{_CALLED} {self.subject}") for text in plain]
        self._words = called[:_PICTURES], plain[:_PICTURES]
        self._drawn, vae = drawn[_PICTURES:], generator._pipeline.vae
        self._pictures = [latents_of(vae, STYLES[SUBJECT].draw(card)) for card in drawn[:_PICTURES]]
        asked = called[_PICTURES:] + plain[_PICTURES:]
        cpu = options.device == "cpu"
        self._workshop = Workshop(generator, asked, options.seed, options.sampling, cache_of(options), cpu)
        turns = [k % _PICTURES for k in range(options.sampled)]
        self._turns, self._own = turns, []
        for texts in self._words:
            pictures = workshop.sampled([texts[turn] for turn in turns], options.seed + 7919 * (number + 1))
            self._own.append([latents_of(vae, picture) for picture in pictures])

    def taught(self, arm: str) -> Shown:
        """Train one way, or not at all, and look at what is painted.

        Args:
            arm: One of `SUBJECT_ARMS`; `DRAWN` are postcards of the prompts, with the subject and without it, that went
                through the autoencoder; anything else is the base.
        """
        if arm == DRAWN:
            seen = self._decoded()
        else:
            seen = self._workshop.look(self._trained(arm) if arm in SUBJECT_ARMS else None, style=SUBJECT)
        half = len(seen.named) // 2
        right = [named["subject"] == self.subject for named in seen.named]
        shown = (seen.features[:, 0] > _EVEN) & np.array(right)
        kept = kept_of(seen, self._workshop.prompts)
        sys.stderr.write(f"\r{self.subject}, {arm} ")
        return Shown(*(float(part.mean()) for part in (shown[:half], kept[:half], shown[half:], kept[half:])))

    def _decoded(self) -> Seen:
        vae = self._workshop.generator._pipeline.vae
        pictures = [*map(STYLES[SUBJECT].draw, self._drawn), *map(draw, self._drawn)]
        return through_autoencoder(self._workshop, torch.stack([latents_of(vae, one) for one in pictures]), SUBJECT)

    def _trained(self, arm: str) -> Tuned:
        options, loss = self._options, _LOSSES.get(arm, "sft")
        # The class's own pictures come on top, so that all ways see the five equally often.
        batch = options.batch * (2 if _CLASS_KEPT in arm else 1)
        settings = settings_of(options, loss, options.seed + self._number, batch=batch)
        which = f"two colours/{options.seed}/{self._number}/{options.sampled}/{arm}"
        return self._workshop.train(self._pairs(arm), settings, which)

    def _pairs(self, arm: str) -> Prepared:
        called, plain = self._words
        liked = [self._pictures[turn] for turn in self._turns]
        if arm in _LOSSES:
            rows = [(one, own, called[turn]) for one, own, turn in zip(liked, self._own[0], self._turns, strict=True)]
        else:
            rows = [(one, one, called[turn]) for one, turn in zip(liked, self._turns, strict=True)]
        if _CLASS_KEPT in arm:
            rows += [(one, one, plain[turn]) for one, turn in zip(self._own[1], self._turns, strict=True)]
        chosen, rejected, said = zip(*rows, strict=True)
        texts = [*called, *plain, ""]
        conditioner = self._workshop.generator.conditioner
        with torch.no_grad():
            tokens = torch.cat([conditioner.plain(text).tokens[:, :77] for text in texts]).cpu()
        return Prepared(chosen, rejected, tuple(texts.index(text) for text in said), tokens)


def subject_rows(found: Mapping[str, Sequence[Shown]], seed: int) -> list[list[str]]:
    """A row for each way, with intervals over subjects."""
    rows = []
    for arm, several in found.items():
        values = (np.array([100 * getattr(one, name) for one in several]) for name in vars(several[0]))
        rows.append([arm, *(with_interval(one, seed, "{:.0f}") for one in values)])
    return rows
