"""How few answers a taste needs: ways to choose what to ask, kinds of questions, mistakes, and what is known of others.

Everybody is asked one thing after another about the same pictures; what is learned is tested on random pairs of other
pictures. Every question is one answer, whether two pictures are compared, the best of four is picked or four are put
in order. The yardstick is what random pairs, with nothing known of other people, need 100 answers for. Where other
people have nothing in common, by the evidence of their answers, the population prior is no prior, and so is its row.
"People known exactly" is not to be had: the true mean and covariance of what such people care for, as a bound.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..comparisons import PreferenceStore
from ..encoders import ImageTextEncoder, load_encoder
from ..taste.subspace import image_subspace
from ._asking import KINDS, ByEvidence, PriorOf, accuracy_by_answers, priors_of
from ._known import PEOPLE, exact_prior
from ._options import counts, percents, positive, share, some_of
from ._replay import replayed_accuracy
from ._samples import stored_samples
from ._strategies import STRATEGIES, make_ask
from ._tables import Array, bootstrap_interval, markdown, provenance
from ._world import World, draw_world

__all__ = ["YARDSTICK", "reached", "run"]

YARDSTICK = 100  # answers of random pairs
PRIORS = ("none", "population", "exact")
_KNOWN = {"none": "no prior", "population": "population prior", "exact": "people known exactly"}
_AIMS = {
    ("pairs", "none"): 35,
    ("graded pairs", "none"): 35,
    ("pairs", "population"): 20,
    ("best of four", "none"): 20,
    ("graded best of four", "none"): 20,
    ("ordered fours", "none"): 12,
}


@dataclass(frozen=True)
class Arm:
    """One way to ask: kind of question, what is known of others, and who chooses what to show."""

    kind: str
    prior: str
    strategy: str

    @property
    def title(self) -> str:
        """In the table."""
        return f"{self.kind}, {_KNOWN[self.prior]}, {self.strategy}"


_YARDSTICK = Arm("pairs", "none", "random")  # always asked: nobody's answers are changed by it


def run(argv: Sequence[str]) -> int:
    """Run the study and print its tables; returns the exit status."""
    options = _options(argv)
    if options.data is not None:
        return _run_on_answers(argv, options)
    start = time.perf_counter()
    encoder = load_encoder(options.encoder)
    cache = None if options.cache is None else Path(options.cache)
    world = draw_world(encoder, options.people, options.pictures, options.seed, options.shared, 0, cache)
    others = (
        draw_world(encoder, options.others, options.pictures, options.seed, options.shared, options.people, cache)
        if "population" in options.priors
        else None
    )
    exact = _exact(encoder, options, cache) if "exact" in options.priors else {}
    sizes = sorted({*options.answers, YARDSTICK} if max(options.answers) >= YARDSTICK else set(options.answers))
    fours = [size for size in sizes if size <= (options.fours or max(sizes))]
    sys.stdout.write(_opening(options, world, encoder.name))
    for mistakes in options.mistakes:
        priors = exact | priors_of(world, others, options.others_answers, mistakes, options.seed)
        accuracy: dict[Arm, Array] = {}
        for arm in [*([_YARDSTICK] if YARDSTICK in sizes else []), *_arms(options)]:
            upto = sizes if KINDS[arm.kind] == 2 else fours
            alone = accuracy.get(Arm(arm.kind, "none", arm.strategy))
            if arm in accuracy:
                continue
            if arm.prior == "population" and priors["population"] == priors["none"] and alone is not None:
                accuracy[arm] = alone
            else:
                accuracy[arm] = _people(world, arm, priors[arm.prior], upto, mistakes, options)
        sys.stdout.write(_tables(accuracy, sizes, mistakes, world.ceiling(), options.seed))
        sys.stdout.flush()
    sys.stdout.write(f"{time.perf_counter() - start:.0f} seconds. " + provenance("clicks", argv, options.seed))
    return 0


def _run_on_answers(argv: Sequence[str], options: argparse.Namespace) -> int:
    """The same for pairs of a store: what people answered, in the order that each strategy would have asked it."""
    sizes: list[int] = options.answers
    with PreferenceStore.existing(options.data) as store:
        samples = stored_samples(store, load_encoder(options.encoder), 2 * max(sizes), 200, options.seed, "--answers")
    subspace = image_subspace(np.concatenate([side for s in samples for side in (s.chosen, s.rejected)]))
    accuracy = {
        Arm("pairs", "none", strategy): np.array(
            [
                replayed_accuracy(s, strategy, ByEvidence(subspace), sizes, options.seed + k)
                for k, s in enumerate(samples)
            ]
        ).T
        for strategy in options.strategies
    }
    sys.stdout.write(
        f"{len(samples)} people of the store, each asked some of {2 * max(sizes)} pairs that they answered.\n\n"
        + _tables(accuracy, sizes, None, None, options.seed)
        + provenance("clicks", argv, options.seed)
    )
    return 0


def _exact(encoder: ImageTextEncoder, options: argparse.Namespace, cache: Path | None) -> dict[str, PriorOf]:
    """The prior of who knows how these people are made."""
    first = options.people + options.others
    return {
        "exact": exact_prior(draw_world(encoder, PEOPLE, options.pictures, options.seed, options.shared, first, cache))
    }


def _arms(options: argparse.Namespace) -> list[Arm]:
    return [
        Arm(kind, prior, strategy)
        for kind in options.kinds
        for prior in options.priors
        for strategy in options.strategies
        if prior == "none" or strategy != "uncertainty"
    ]


def _people(
    world: World, arm: Arm, prior: PriorOf, sizes: Sequence[int], mistakes: float, options: argparse.Namespace
) -> Array:
    """(C, P) accuracy of everybody."""
    said = mistakes, options.seed, options.wavering
    people = range(len(world.utility))
    ask = [make_ask(arm.strategy) for _ in people]
    return np.array([accuracy_by_answers(world, p, arm.kind, ask[p], prior, sizes, *said) for p in people]).T


def reached(curve: Array, sizes: Sequence[int], level: float) -> float:
    """After how many answers a curve (C,) reaches a level, a straight line between two numbers; infinity for never."""
    above = np.flatnonzero(curve >= level - 1e-9)  # a curve reaches its own values, however they were summed
    if not len(above):
        return float("inf")
    k = int(above[0])
    if k == 0:
        return float(sizes[0])
    share = (level - curve[k - 1]) / (curve[k] - curve[k - 1])
    return float(sizes[k - 1] + share * (sizes[k] - sizes[k - 1]))


def _reached(accuracy: Array, yardstick: Array, sizes: Sequence[int], seed: int) -> str:
    """How many answers it took, with interval over people; the same people of the yardstick are drawn."""
    at = list(sizes).index(YARDSTICK)
    generator = np.random.default_rng(seed)
    drawn = generator.integers(0, accuracy.shape[1], (1000, accuracy.shape[1]))
    found = [reached(accuracy[:, some].mean(axis=1), sizes, float(yardstick[at, some].mean())) for some in drawn]
    middle = reached(accuracy.mean(axis=1), sizes, float(yardstick[at].mean()))
    low, high = np.percentile(found, [2.5, 97.5], method="nearest")
    return f"{_number(middle)} ({_number(low)} to {_number(high)})"


def _number(value: float) -> str:
    return "never" if np.isinf(value) else f"{value:.0f}"


def _worse(accuracy: Array, random: Array, sizes: Sequence[int], seed: int) -> str:
    """After how many answers it is worse than random pairs or fours of the same kind, the same people compared."""
    worse = [
        str(count)
        for count, ours, theirs in zip(sizes[: len(accuracy)], accuracy, random, strict=True)
        if bootstrap_interval(ours - theirs, seed)[1] < 0.0
    ]
    return ", ".join(worse) or "nowhere"


def _tables(
    accuracy: dict[Arm, Array], sizes: Sequence[int], mistakes: float | None, ceiling: float | None, seed: int
) -> str:
    yardstick = accuracy.get(_YARDSTICK)
    known = yardstick is not None and YARDSTICK in sizes
    rows, shares = [], []
    for arm, found in accuracy.items():
        cells = []
        for by_person in found:
            low, high = bootstrap_interval(by_person, seed)
            cells.append(f"{100 * by_person.mean():.1f} ± {50 * (high - low):.1f}")
        cells += ["–"] * (len(sizes) - len(cells))
        random = accuracy.get(Arm(arm.kind, arm.prior, "random"))
        answers = _reached(found, yardstick, sizes, seed) if yardstick is not None and known else "–"
        aim = _AIMS.get((arm.kind, arm.prior)) if arm.strategy == "ours" else None
        worse = "–" if random is None or arm.strategy == "random" else _worse(found, random, sizes, seed)
        rows.append([arm.title, *cells, answers, str(aim or "–"), worse])
        share = [] if ceiling is None else [f"{100 * (v - 0.5) / (ceiling - 0.5):.0f}" for v in found.mean(axis=1)]
        shares.append([arm.title, *share, *["–"] * (len(sizes) - len(share))])
    header = ["answers", *map(str, sizes)]
    planted = "" if mistakes is None else f"**{100 * mistakes:.0f} % mistakes.** "
    known_ceiling = ["(accuracy - 50) / (ceiling - 50) in %:\n", markdown(header, shares), ""]
    return "\n".join(
        [
            f"{planted}Accuracy in % (± half the width of its 95 % interval over people); after how many answers it "
            f"knows as much as after {YARDSTICK} random pairs with no prior; the aim; and where it is worse than "
            "random of its kind (its interval of the difference lies below 0):\n",
            markdown([*header, f"as {YARDSTICK} random pairs", "aim", "worse than random"], rows),
            *([""] if ceiling is None else known_ceiling),
        ]
    )


def _opening(options: argparse.Namespace, world: World, encoder: str) -> str:
    return (
        f"{len(world.utility)} simulated people, {len(world.vectors)} drawn postcards to ask about, tested on "
        f"{world.difference.shape[0]} random pairs of others; encoder {encoder}, {world.vectors.shape[1]} dimensions; "
        f"true utility predicts {100 * world.ceiling():.1f} % (the ceiling); population prior from {options.others} "
        f"others with {options.others_answers} answers to random pairs each; {100 * options.shared:.0f} % of the "
        "variance of everybody's utility common to all.\n\n"
    )


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="palate study clicks", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--people", type=positive, default=40, help="simulated people to test (40)")
    parser.add_argument("--others", type=positive, default=16, help="others, for the population prior (16)")
    parser.add_argument("--others-answers", type=positive, default=100, help="answers of each of them (100)")
    parser.add_argument("--pictures", type=positive, default=2000, help="drawn postcards to ask about (2000)")
    parser.add_argument("--shared", type=share, default=0.0, help="of the variance of utility, common to all (0)")
    parser.add_argument("--answers", type=counts, default=[5, 10, 12, 20, 35, 40, 60, 100, 200], help="5,10,...")
    parser.add_argument("--fours", type=positive, default=None, help="answers about fours, at most; as for pairs")
    parser.add_argument("--mistakes", type=percents, default=[0.0, 0.1, 0.2], help="in %%: 0,10,20")
    for name, values, usual in (
        ("kinds", tuple(KINDS), list(KINDS)),
        ("priors", PRIORS, [prior for prior in PRIORS if prior != "exact"]),
        ("strategies", STRATEGIES, list(STRATEGIES)),
    ):
        parser.add_argument(f"--{name}", type=some_of(values, ","), default=usual, help=", ".join(values))
    wavers = "of what people call much better where they are asked: standard deviation of its logarithm (0)"
    parser.add_argument("--wavering", type=float, default=0.0, help=wavers)
    parser.add_argument("--cache", default=None, help="folder to keep drawn and encoded pictures in between runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", default=None, help="folder of a store: real people's answers instead, pairs only")
    parser.add_argument("--encoder", "--model", default="playground", help="playground, a CLIP folder or file, ...")
    return parser.parse_args(list(argv))
