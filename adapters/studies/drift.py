"""`palate study drift`: what a half-life gains where a taste changes, and loses where it doesn't.

A person answers random pairs, one a day, while their taste turns from one invented person's to another's, who has
nothing to do with the first: by so many degrees in all, or at once after half of the answers. What was learned, with
older answers counting less and less or all alike, is tested on what the person thinks at the end.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..comparisons import Comparison
from ..encoders import load_encoder
from ..taste.answers import DAY, Answers
from ..taste.likelihood import sigmoid
from ..taste.subspace import Subspace, image_subspace
from ._options import counts, positive
from ._tables import Array, bootstrap_interval, markdown, provenance
from ._world import World, draw_world

__all__ = ["COURSES", "accuracies", "drifting", "run", "turned"]

Course = Callable[[Array], Array]  # how much of the time has passed, in [0, 1] -> the angle turned by, in radians

COURSES: dict[str, Course] = {
    "stays": lambda passed: 0.0 * passed,
    "turns by 30°": lambda passed: math.radians(30.0) * passed,
    "turns by 90°": lambda passed: math.radians(90.0) * passed,
    "another one from half way on": lambda passed: np.where(passed >= 0.5, math.radians(90.0), 0.0),
}


def run(argv: Sequence[str]) -> int:
    """Run the study and print its table; returns the exit status."""
    options = _options(argv)
    start = time.perf_counter()
    cache = None if options.cache is None else Path(options.cache)
    world = draw_world(load_encoder(options.encoder), 2 * options.people, options.pictures, options.seed, 0.0, 0, cache)
    subspace = image_subspace(world.vectors)
    half_lives: list[float | None] = [None, *options.half_lives]
    for count in options.answers:
        found = {
            name: np.array(
                [accuracies(world, p, course, count, half_lives, subspace, options.seed) for p in range(options.people)]
            ).T
            for name, course in COURSES.items()
        }
        sys.stdout.write(_table(found, half_lives, count, options))
        sys.stdout.flush()
    sys.stdout.write(f"{time.perf_counter() - start:.0f} seconds. " + provenance("drift", argv, options.seed))
    return 0


def drifting(world: World, person: int, course: Course, count: int, seed: int) -> Answers:
    """Return `count` answers to random pairs, one a day, by somebody who turns into the person P / 2 further on."""
    rng = np.random.default_rng([seed, person, count])
    left, right = np.stack([rng.choice(len(world.vectors), 2, replace=False) for _ in range(count)], axis=1)
    utility = turned(world.utility, person, course(np.arange(count) / max(count - 1, 1))[:, None])
    rows = np.arange(count)
    wins = rng.random(count) < sigmoid(utility[rows, left] - utility[rows, right])
    comparisons = [
        Comparison("p", f"{i:064x}", f"{j:064x}", "left" if won else "right", created=DAY * (day + 1.0))
        for day, (i, j, won) in enumerate(zip(left.tolist(), right.tolist(), wins.tolist(), strict=True))
    ]
    return Answers(tuple(comparisons), world.vectors[left], world.vectors[right])


def turned(utility: Array, person: int, angle: Array) -> Array:
    """(..., M) utility of somebody who turned by an angle (..., 1) from one person to another."""
    first, second = utility[person], utility[len(utility) // 2 + person]
    return np.asarray(np.cos(angle) * first + np.sin(angle) * second)


def accuracies(
    world: World,
    person: int,
    course: Course,
    count: int,
    half_lives: Sequence[float | None],
    subspace: Subspace | None,
    seed: int,
) -> list[float]:
    """(H,) accuracy on what the person thinks at the end, by half-life."""
    answers = replace(drifting(world, person, course, count, seed), subspace=subspace)
    now = replace(world, gap=turned(world.gap, person, course(np.ones(1)))[None])
    return [now.accuracy(0, replace(answers, half_life=days).fit().weights_) for days in half_lives]


def _table(found: dict[str, Array], half_lives: Sequence[float | None], count: int, options: argparse.Namespace) -> str:
    rows = []
    for k, days in enumerate(half_lives):
        row = ["none" if days is None else f"{days:g}"]
        for by_half_life in found.values():
            cell = f"{100 * by_half_life[k].mean():.1f}"
            if days is not None:
                gain = by_half_life[k] - by_half_life[0]
                low, high = bootstrap_interval(gain, options.seed)
                cell += f", {100 * gain.mean():+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
            row.append(cell)
        rows.append(row)
    return (
        f"**{count} answers, one a day, of {options.people} people.** Accuracy in % on the taste at the end, and what "
        "the half-life adds with its 95 % interval over people:\n\n"
        + markdown(["half-life in answers", *(f"taste {name}" for name in found)], rows)
        + "\n"
    )


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="palate study drift", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--people", type=positive, default=40, help="simulated people (40)")
    parser.add_argument("--answers", type=counts, default=[100, 300], help="of each, one a day (100,300)")
    parser.add_argument("--half-lives", type=_days, default=[25.0, 50.0, 100.0, 200.0], help="in days (25,50,100,200)")
    parser.add_argument("--pictures", type=positive, default=2000, help="drawn postcards to ask about (2000)")
    parser.add_argument("--cache", default=None, help="folder to keep drawn and encoded pictures in between runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--encoder", "--model", default="playground", help="playground, a CLIP folder or file, ...")
    return parser.parse_args(list(argv))


def _days(text: str) -> list[float]:
    values = sorted({float(part) for part in text.split(",")})
    if not values[0] > 0.0:
        raise argparse.ArgumentTypeError(f"{text}; expected days above 0")
    return values
