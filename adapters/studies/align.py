"""`palate study align`: every loss from the same comparisons of one utility.

N comparisons train a LoRA with each loss; its pictures are judged by that utility, from the pixels, beside the base's
of the same seeds. Several utilities, each a training of its own, are what the intervals go over. What a gain costs
stands beside it: how much of the prompts is kept, how far the pictures of one prompt are apart, steps and seconds.
With `--rates` every loss has the rate that suits it on other utilities, as many for each.
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
from ._gains import Gain, furthest, gain_of, planted_utility
from ._minority import doubts_about
from ._options import positive, rates, some_of
from ._postcards import Answers, Postcards, embeddings_of, pairs_of
from ._tables import markdown, provenance, with_interval
from ._tuning import Tuned, Workshop

__all__ = ["run"]

_DOUBTED = "cdpo, doubted"
_OTHERS = 100_000  # from a study's seed to that of the utilities that rates are set on
_IN_BYTES = ", int8"  # behind a loss: the model's own weights are held so while it trains
_DEFAULT = (*LOSSES, _DOUBTED)
_NAMES = (*_DEFAULT, *(loss + _IN_BYTES for loss in LOSSES))


@dataclass(frozen=True)
class Found:
    """One loss on one utility."""

    gain: Gain
    tuned: Tuned
    rate: float


def run(argv: Sequence[str]) -> int:
    """Run the study and print its table; returns the exit status."""
    options = _options(argv)
    started = time.perf_counter()
    workshop, _ = opened(options)
    cards = cards_of(options, workshop)
    rate = {name: own_rate(workshop, cards, name, options) for name in options.losses}
    found: dict[str, list[Found]] = {}
    for number in range(options.utilities):
        for name in options.losses:
            one = learned(workshop, cards, name, options.seed + number, rate[name], options)
            found.setdefault(name, []).append(one)
            sys.stderr.write(f"\rutility {number + 1} of {options.utilities}, {name} ")
    sys.stdout.write(_report(argv, options, found, time.perf_counter() - started))
    return 0


def own_rate(workshop: Workshop, cards: Postcards, name: str, options: argparse.Namespace) -> float:
    """The rate of a loss: the one of all, or of several the one that gains most on other utilities; see `furthest`."""
    if options.rates is None:
        return float(options.learning_rate)
    told = {}
    for rate in options.rates:
        seeds = range(options.seed + _OTHERS, options.seed + _OTHERS + options.tuning)
        gains = [learned(workshop, cards, name, seed, rate, options).gain for seed in seeds]
        told[rate] = float(np.mean([one.gain for one in gains])), float(np.mean([one.kept for one in gains]))
        sys.stderr.write(f"\r{name} at {rate:g}: {told[rate][0]:+.2f}, {100 * told[rate][1]:.0f} % kept\n")
    return furthest(told)


def learned(
    workshop: Workshop, cards: Postcards, name: str, seed: int, rate: float, options: argparse.Namespace
) -> Found:
    """Train with one loss on the answers by one utility, and judge what is painted then."""
    person, answers = planted_utility(cards, options.pairs, seed)
    tuned = trained(workshop, cards, answers, name, seed, options, rate)
    return Found(gain_of(workshop, tuned, person, options.diverse), tuned, rate)


def trained(
    workshop: Workshop, cards: Postcards, answers: Answers, name: str, seed: int, options: Any, rate: float
) -> Tuned:
    """Train with one loss, its beta the paper's; from the cache where `flips` did the same."""
    loss = name.split(",")[0]
    fixed = options.fixed_noise if loss not in REFERENCE_FREE else 0
    frozen = "int8" if name.endswith(_IN_BYTES) else None
    settings = settings_of(options, loss, seed, fixed_noise=fixed, learning_rate=rate, frozen=frozen)
    doubts = doubts_about(cards, answers) if name == _DOUBTED else None
    known = KnownOfPairs(embeddings_of(cards, answers) if loss == "rpo" else None, doubts)
    which = f"utility {seed} of {options.seed}/{len(cards.captions)}/0/False/{name == _DOUBTED}"
    return workshop.train(pairs_of(cards, answers), settings, which, known=known)


def _report(
    argv: Sequence[str], options: argparse.Namespace, found: Mapping[str, Sequence[Found]], spent: float
) -> str:
    rows, first = [], np.array([one.gain.gain for one in found[options.losses[0]]])
    for name, several in found.items():
        gain, wins, kept, diversity = (
            np.array([getattr(one.gain, part) for one in several]) for part in ("gain", "wins", "kept", "diversity")
        )
        seconds, steps = (np.mean([getattr(one.tuned, part) for one in several]) for part in ("seconds", "steps"))
        rows.append(
            [
                name,
                f"{several[0].rate:g}",
                with_interval(100 * wins, options.seed, "{:.0f}"),
                with_interval(gain, options.seed, "{:+.2f}"),
                "" if name == options.losses[0] else with_interval(gain - first, options.seed, "{:+.2f}"),
                f"{100 * kept.mean():.0f}",
                "–" if np.isnan(diversity).all() else f"{100 * np.nanmean(diversity):.0f}",
                f"{steps:.0f}",
                f"{seconds:.0f}",
            ]
        )
    header = ["loss", "rate", "wins, %", "gain, SD of utility", f"ahead of {options.losses[0]}", "kept, %"]
    header += ["diversity, %", "steps", "seconds"]
    return "\n".join(
        [
            f"{options.utilities} utilities, {options.pairs} comparisons each, whose noise lets true utility agree "
            f"with 87 % of them; {options.steps} steps of {options.batch} pairs, rank {options.rank} and the papers' "
            f"betas for all, {_rates(options)}; {options.prompts} prompts, {options.sampling} sampling steps; kept "
            f"and diversity ({options.diverse} prompts) over the base's; 95 % bootstrap interval "
            "over utilities:\n",
            markdown(header, rows),
            f"{spent / 60:.0f} minutes. " + provenance("align", argv, options.seed),
        ]
    )


def _rates(options: argparse.Namespace) -> str:
    if options.rates is None:
        return "one rate"
    several = ", ".join(f"{rate:g}" for rate in options.rates)
    return f"of the rates {several} the one that suits each on {options.tuning} other utilities"


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = common_options("align", __doc__)
    parser.add_argument("--utilities", type=positive, default=4, help="each a training of its own")
    parser.add_argument("--losses", type=some_of(_NAMES), default=list(_DEFAULT), metavar="sft|dpo|...")
    parser.add_argument("--pairs", type=positive, default=400)
    parser.add_argument("--diverse", type=positive, default=6, help="prompts that are painted with three seeds")
    training_options(parser)
    parser.add_argument(
        "--rates",
        type=rates,
        metavar="1e-3,3e-3,...",
        help="each loss takes that of these which gains most on other utilities and keeps nine tenths of the prompts",
    )
    parser.add_argument("--tuning", type=positive, default=3, help="how many other utilities rates are set on")
    parser.add_argument("--fixed-noise", type=int, default=0, help="draws of noise for each pair; 0 draws anew")
    return parsed(parser, argv, {"utilities": 1, "pairs": 8, "steps": 2, "batch": 2, "diverse": 1, "tuning": 1})
