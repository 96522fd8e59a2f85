"""`palate study defaults`: what a training gives one person when nothing is said, from few comparisons and from many.

Simulated people answer; a part of their answers is held out, as `palate train lora` does it. A LoRA is trained as
`TrainSettings.settled` has it, and as each rival has it; its pictures are judged by the person's true utility, from the
pixels. A default is right when its LoRA is not worse than none, or says so: `better` is what the user is told.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..errors import FineTuneError
from ..finetune.gradients import KnownOfPairs
from ..finetune.pairs import FEWEST_HELD_OUT, HELD_OUT, MOST_HELD_OUT
from ..finetune.settings import TrainSettings
from ..playground.people import Person, make_people
from ._bench import cards_of, common_options, opened, parsed
from ._gains import Gain, gain_of
from ._minority import doubts_about, without_doubted
from ._options import positive
from ._postcards import Postcards, answered, calibrated_on, pairs_of
from ._tables import markdown, provenance, with_interval
from ._tuning import Tuned, Workshop

__all__ = ["SETTLED", "rival", "run"]

SETTLED = "as settled"
_RIVALS = (SETTLED, "dpo", "mapo", "mapo, dropped", "dpo, dropped")
_HELP = (
    '"as settled", a loss, or such as "mapo, dropped at 0.003": without the answers that a taste of the others doubts, '
    "at this rate; cdpo softens each as far as that taste doubts it"
)
_AT = " at "  # between a loss and its rate
_DROPPED = ", dropped"
_CARDS = 16  # that invented people set their noise on; it is set again on the postcards


def rival(name: str) -> TrainSettings:
    """Settings by their name: "as settled", or a loss, without the doubted answers, at which rate."""
    if name == SETTLED:
        return TrainSettings()
    how, _, rate = name.partition(_AT)
    loss = how.removesuffix(_DROPPED)
    return TrainSettings(loss=loss, drop_doubted=how != loss, learning_rate=float(rate) if rate else None)


def run(argv: Sequence[str]) -> int:
    """Run the study and print its table; returns the exit status."""
    options = _options(argv)
    started = time.perf_counter()
    workshop, _ = opened(options)
    cards = cards_of(options, workshop)
    people = [calibrated_on(person, cards) for person in make_people(options.people, options.seed, cards=_CARDS)]
    found: dict[tuple[str, int], list[tuple[Gain, Tuned]]] = {}
    for person in people:
        for count in options.pairs:
            for name in options.rivals:
                tuned = _trained(workshop, cards, person, count, name, options)
                found.setdefault((name, count), []).append((gain_of(workshop, tuned, person), tuned))
                sys.stderr.write(f"\r{person.name}, {count} comparisons, {name} ")
    sys.stdout.write(_report(argv, options, found, time.perf_counter() - started))
    return 0


def _trained(
    workshop: Workshop, cards: Postcards, person: Person, count: int, name: str, options: argparse.Namespace
) -> Tuned:
    answers = answered(person, cards, count, random.Random(f"defaults/{options.seed}/{person.name}"))
    held = min(MOST_HELD_OUT, max(FEWEST_HELD_OUT, round(HELD_OUT * count)))
    kept, judged = answers[held:], answers[:held]
    settings = replace(rival(name), seed=options.seed, steps=options.steps)
    if settings.drop_doubted is not False:
        kept = without_doubted(cards, kept)
    known = KnownOfPairs(None, doubts_about(cards, kept) if settings.loss == "cdpo" else None)
    which = f"defaults/{options.seed}/{person.name}/{len(cards.captions)}/{count}"
    which += "" if settings.drop_doubted is False else "/dropped"
    return workshop.train(pairs_of(cards, kept), settings, which, pairs_of(cards, judged), known=known)


def _report(
    argv: Sequence[str],
    options: argparse.Namespace,
    found: Mapping[tuple[str, int], Sequence[tuple[Gain, Tuned]]],
    spent: float,
) -> str:
    rows = []
    for (name, count), several in sorted(found.items(), key=lambda one: (one[0][1], options.rivals.index(one[0][0]))):
        gain = np.array([one.gain for one, _ in several])
        first = np.array([one.gain for one, _ in found[options.rivals[0], count]])
        worse = [tuned.better for one, tuned in several if one.gain < 0]
        rows.append(
            [
                f"{count}",
                name,
                with_interval(gain, options.seed, "{:+.2f}"),
                "" if name == options.rivals[0] else with_interval(gain - first, options.seed, "{:+.2f}"),
                f"{100 * np.mean([one.wins for one, _ in several]):.0f}",
                f"{100 * np.mean([one.kept for one, _ in several]):.0f}",
                f"{100 * np.mean([tuned.accuracy for _, tuned in several]):.0f}",
                f"{sum(tuned.better is True for _, tuned in several)} of {len(several)}",
                f"{sum(better is True for better in worse)} of {len(worse)}",
                f"{np.mean([tuned.steps for _, tuned in several]):.0f}",
            ]
        )
    header = ["comparisons", "settings", "gain, SD of utility", f"ahead of {options.rivals[0]}", "wins, %", "kept, %"]
    header += ["held out, %", "called better", "worse but called better", "steps"]
    steps = "as many steps as are settled" if options.steps is None else f"{options.steps} steps"
    return "\n".join(
        [
            f"{options.people} simulated people whose true utility agrees with 87 % of their answers; {steps}; "
            f"{options.prompts} prompts, {options.sampling} sampling steps; 95 % bootstrap interval over people:\n",
            markdown(header, rows),
            f"{spent / 60:.0f} minutes. " + provenance("defaults", argv, options.seed),
        ]
    )


def _rivals(text: str) -> list[str]:
    names = [part.strip() for part in text.split("|")]
    try:
        for name in names:
            rival(name)
    except (FineTuneError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}; expected {_HELP}") from error
    return names


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(positive(part) for part in text.split(","))


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = common_options("defaults", __doc__)
    parser.add_argument("--people", type=positive, default=40)
    parser.add_argument("--pairs", type=_numbers, default=(20, 50, 100, 200, 500), metavar="20,50,...")
    parser.add_argument("--rivals", type=_rivals, default=list(_RIVALS), metavar="a|b|c", help=_HELP)
    parser.add_argument("--steps", type=positive, default=None, help="for all; by default as many as are settled")
    return parsed(parser, argv, {"people": 1, "pairs": (8,), "steps": 2})
