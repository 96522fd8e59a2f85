"""A model taught a style by pairs of one postcard in that style and as the world draws it, and what it then paints.

Shapes: K prompts, N pairs, D joint width.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..finetune.gradients import KnownOfPairs
from ..finetune.losses import LOSSES
from ..finetune.prepared import Prepared
from ._bench import cards_of, settings_of, training_options
from ._gains import furthest, kept_of
from ._options import positive, rates, some_of
from ._painter import Seen
from ._postcards import Answers, Postcards, embeddings_between, pairs_between
from ._styles import STYLES, picture_of
from ._tables import Array
from ._tuning import Workshop

__all__ = ["Judged", "StyleBench", "kid", "own_rates", "styles_and_arms", "through_autoencoder"]

_THEN = " then "  # between the stages of an arm


@dataclass(frozen=True)
class Judged:
    """Pictures of the prompts, judged as a style.

    Attributes:
        share: How much of the style they have, by its own measure: 0 as the base's pictures, 1 as drawn ones that went
            through the autoencoder.
        kept: Share whose prompt is kept, of what can be read in this style.
        kid: Kernel distance in CLIP space to drawn pictures of the same prompts.
    """

    share: float
    kept: float
    kid: float


class StyleBench:
    """One style: its pairs, and how its pictures are judged.

    Attributes:
        name: In `STYLES`.
        further: The base's denoising error on pictures of this style, over that on the same cards as the world draws
            them: how far it is from what the model paints.
        away: Kernel distance in CLIP space between drawn pictures in this style and without it.
        base, drawn: The base's pictures and, what can be had at most, drawn ones that went through the autoencoder.
    """

    def __init__(self, workshop: Workshop, name: str, options: argparse.Namespace) -> None:
        self._workshop, self._options, self.name = workshop, options, name
        self._plain, self._styled = (cards_of(options, workshop, style) for style in ("", name))
        wanted = cards_of(options, workshop, name, prompts=True)
        self._wanted = _rows(wanted, 1)
        errors = workshop.errors(self._pairs(np.arange(len(self._plain.captions)))[0], options.seed)
        self.further = errors[0] / errors[1]
        self.away = kid(self._wanted, _rows(cards_of(options, workshop, prompts=True), 1))
        self._seen = workshop.base(style=name), through_autoencoder(workshop, wanted.latents[:, 0], name)
        self.base, self.drawn = (self.judged(seen) for seen in self._seen)

    def several(self, arm: str) -> tuple[str, list[Judged]]:
        """Every training of an arm, each at the rate that the others of that arm chose; what to call them."""
        options = self._options
        rates = options.rates or [options.learning_rate]
        found = {rate: [self.taught(arm, number, rate) for number in range(options.trainings)] for rate in rates}
        own = own_rates(found, self.base.kept)
        name = f"{arm} at {' and '.join(f'{rate:g}' for rate in dict.fromkeys(own))}" if options.rates else arm
        return name, [found[rate][number] for number, rate in enumerate(own)]

    def taught(self, arm: str, number: int, rate: float) -> Judged:
        """Train on a part of the captions of its own, and judge what is painted then.

        Args:
            arm: A loss, or several with "then" between them, which share the steps.
            number: Of the training, from 0.
            rate: Of learning.
        """
        options, (*stages, loss) = self._options, arm.split(_THEN)
        each = len(self._plain.captions) // options.trainings
        pairs, known = self._pairs(np.arange(number * each, (number + 1) * each))
        steps = max(1, options.steps // (1 + len(stages)))
        settings = settings_of(
            options, loss, options.seed + number, steps=steps, stages=tuple(stages), learning_rate=rate
        )
        which = f"{self.name}/{options.seed}/{number}/{len(self._plain.captions)}/{options.trainings}"
        tuned = self._workshop.train(pairs, settings, which, known=known)
        sys.stderr.write(f"\r{self.name}, training {number + 1}, {arm}, {rate:g} ")
        return self.judged(self._workshop.look(tuned, style=self.name))

    def judged(self, seen: Seen) -> Judged:
        """What pictures of the prompts are like."""
        low, high = (one.features[:, 0].mean() for one in self._seen)
        share = (seen.features[:, 0].mean() - low) / ((high - low) or 1.0)
        kept = kept_of(seen, self._workshop.prompts).mean()
        return Judged(float(share), float(kept), kid(seen.vectors, self._wanted))

    def _pairs(self, captions: npt.NDArray[np.int64]) -> tuple[Prepared, KnownOfPairs]:
        """Of every card of these captions, the styled one chosen over the plain one."""
        views = self._plain.latents.shape[1]
        caption, view = np.repeat(captions, views), np.tile(np.arange(views), len(captions))
        nothing = np.zeros(len(caption), dtype=bool)
        answers = Answers(caption, view, view, nothing.astype(np.float64), nothing)
        sides = self._styled, self._plain
        return pairs_between(*sides, answers), KnownOfPairs(embeddings_between(*sides, answers))


def _rows(cards: Postcards, first: int) -> Array:
    """(K (V - first), D) of the pictures from this one of each caption on."""
    rows: Array = cards.vectors[:, first:].flatten(0, 1).double().numpy()
    return rows


def through_autoencoder(workshop: Workshop, scaled: Tensor, style: str) -> Seen:
    """What is seen in pictures that were encoded, (K, C, h, w) as the denoiser takes them, when they are decoded."""
    vae, encoder = workshop.generator._pipeline.vae, workshop.generator.encoder
    assert encoder is not None
    latents = scaled / vae.config.scaling_factor + (vae.config.get("shift_factor") or 0.0)
    with torch.no_grad():
        decoded = torch.cat([vae.decode(part.to(vae.device)).sample.float().cpu() for part in latents.split(16)])
    pictures = [picture_of((one.permute(1, 2, 0).double().numpy() + 1.0) / 2.0) for one in decoded]
    features, named = zip(*(STYLES[style].read(picture) for picture in pictures), strict=True)
    return Seen(np.stack(features), named, encoder.encode_images(pictures).double().numpy())


def kid(first: Array, second: Array) -> float:
    """Unbiased squared distance of kernel means with the kernel (1 + cosine)^3; about 0 for one kind.

    Args:
        first, second: (N, D) each, unit norm; NaN where N < 2.

    Source: Binkowski et al. 2018, arXiv:1801.01401, whose kernel divides by D what has a norm of about D; here by 1.
    """

    def within(x: Array) -> float:
        if len(x) < 2:
            return float("nan")
        kernel = (1.0 + x @ x.T) ** 3
        return float((kernel.sum() - np.trace(kernel)) / (len(x) * (len(x) - 1)))

    return within(first) + within(second) - 2.0 * float(((1.0 + first @ second.T) ** 3).mean())


def own_rates(found: Mapping[float, Sequence[Judged]], base: float) -> list[float]:
    """For every training the rate that goes furthest in the others while nine tenths of the base's prompts are kept.

    Args:
        found: Of each rate all trainings; a single one chooses for itself.
        base: Share of prompts that the base keeps.

    Returns:
        As many rates as there are trainings. Where none keeps enough, the one that keeps most.
    """
    number = len(next(iter(found.values())))

    def chosen(place: int) -> float:
        others = [other for other in range(number) if other != place] or [place]
        return furthest({rate: _mean([several[other] for other in others]) for rate, several in found.items()}, base)

    return [chosen(place) for place in range(number)]


def _mean(several: Sequence[Judged]) -> tuple[float, float]:
    """How far these go, and what they keep."""
    return float(np.mean([one.share for one in several])), float(np.mean([one.kept for one in several]))


def styles_and_arms(
    parser: argparse.ArgumentParser, styles: Sequence[str], arms: Sequence[str]
) -> argparse.ArgumentParser:
    """Add the options of trainings on styles."""

    def trained(text: str) -> list[str]:
        names = [part.strip() for part in text.split("|")]
        if not all(set(name.split(_THEN)) <= set(LOSSES) for name in names):
            raise argparse.ArgumentTypeError(f"{text}; expected some of {'|'.join(LOSSES)}, or one{_THEN}another")
        return names

    parser.add_argument("--styles", type=some_of(STYLES), default=list(styles), metavar="a|b|c")
    parser.add_argument("--losses", type=trained, default=list(arms), metavar="sft|sft then dpo|...")
    parser.add_argument("--trainings", type=positive, default=3, help="of each kind, each on its part of the captions")
    training_options(parser)
    parser.add_argument(
        "--rates",
        type=rates,
        metavar="1e-3,3e-3,...",
        help="each loss takes that of these which goes furthest in its other trainings and keeps nine tenths of what "
        "the base keeps",
    )
    return parser
