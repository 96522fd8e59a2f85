"""`palate study align`: every loss from the same comparisons of one utility.

N comparisons train a LoRA with each loss; its pictures are judged by that utility, from the pixels, beside the base's
of the same seeds. Several utilities, each a training of its own, are what the intervals go over. What a gain costs
stands beside it: how much of the prompts is kept, how far the pictures of one prompt are apart, steps and seconds.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..finetune.gradients import KnownOfPairs
from ..finetune.losses import LOSSES, REFERENCE_FREE
from ._bench import cards_of, common_options, opened, parsed, settings_of, training_options
from ._gains import Gain, gain_of, planted_utility
from ._minority import doubts_about
from ._options import positive, some_of
from ._postcards import Answers, Postcards, embeddings_of, pairs_of
from ._tables import markdown, provenance, with_interval
from ._tuning import Tuned, Workshop

__all__ = ["run"]

_DOUBTED = "cdpo, doubted"
_NAMES = (*LOSSES, _DOUBTED)


@dataclass(frozen=True)
class Found:
    """One loss on one utility."""

    gain: Gain
    tuned: Tuned


def run(argv: Sequence[str]) -> int:
    """Run the study and print its table; returns the exit status."""
    options = _options(argv)
    started = time.perf_counter()
    workshop, _ = opened(options)
    cards = cards_of(options, workshop)
    found: dict[str, list[Found]] = {}
    for number in range(options.utilities):
        seed = options.seed + number
        person, answers = planted_utility(cards, options.pairs, seed)
        for name in options.losses:
            tuned = trained(workshop, cards, answers, name, seed, options)
            found.setdefault(name, []).append(Found(gain_of(workshop, tuned, person, options.diverse), tuned))
            sys.stderr.write(f"\rutility {number + 1} of {options.utilities}, {name} ")
    sys.stdout.write(_report(argv, options, found, time.perf_counter() - started))
    return 0


def trained(workshop: Workshop, cards: Postcards, answers: Answers, name: str, seed: int, options: Any) -> Tuned:
    """Train with one loss, its beta the paper's; from the cache where `flips` did the same."""
    loss = name.split(",")[0]
    fixed = options.fixed_noise if loss not in REFERENCE_FREE else 0
    settings = settings_of(options, loss, seed, fixed_noise=fixed)
    doubts = doubts_about(cards, answers) if name == _DOUBTED else None
    known = KnownOfPairs(embeddings_of(cards, answers) if loss == "rpo" else None, doubts)
    which = f"utility {seed} of {options.seed}/{len(cards.captions)}/0/False/{name == _DOUBTED}"
    return workshop.train(pairs_of(cards, answers), settings, which, known=known)


def _report(
    argv: Sequence[str], options: argparse.Namespace, found: Mapping[str, Sequence[Found]], spent: float
) -> str:
    rows = []
    for name, several in found.items():
        gain, wins, kept, diversity = (
            np.array([getattr(one.gain, part) for one in several]) for part in ("gain", "wins", "kept", "diversity")
        )
        seconds, steps = (np.mean([getattr(one.tuned, part) for one in several]) for part in ("seconds", "steps"))
        rows.append(
            [
                name,
                with_interval(100 * wins, options.seed, "{:.0f}"),
                with_interval(gain, options.seed, "{:+.2f}"),
                f"{100 * kept.mean():.0f}",
                "–" if np.isnan(diversity).all() else f"{100 * np.nanmean(diversity):.0f}",
                f"{steps:.0f}",
                f"{seconds:.0f}",
            ]
        )
    header = ["loss", "wins, %", "gain, SD of utility", "kept, %", "diversity, %", "steps", "seconds"]
    return "\n".join(
        [
            f"{options.utilities} utilities, {options.pairs} comparisons each, whose noise lets true utility agree "
            f"with 87 % of them; {options.steps} steps of {options.batch} pairs, rank {options.rank}, rate "
            f"{options.learning_rate:g} and the papers' betas for all; {options.prompts} prompts, {options.sampling} "
            f"sampling steps; kept and diversity ({options.diverse} prompts) over the base's; 95 % bootstrap interval "
            "over utilities:\n",
            markdown(header, rows),
            f"{spent / 60:.0f} minutes. " + provenance("align", argv, options.seed),
        ]
    )


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = common_options("align", __doc__)
    parser.add_argument("--utilities", type=positive, default=4, help="each a training of its own")
    parser.add_argument("--losses", type=some_of(_NAMES), default=list(_NAMES), metavar="sft|dpo|...")
    parser.add_argument("--pairs", type=positive, default=400)
    parser.add_argument("--diverse", type=positive, default=6, help="prompts that are painted with three seeds")
    training_options(parser)
    parser.add_argument("--fixed-noise", type=int, default=0, help="draws of noise for each pair; 0 draws anew")
    return parsed(parser, argv, {"utilities": 1, "pairs": 8, "steps": 2, "batch": 2, "diverse": 1})
