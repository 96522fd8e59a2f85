"""What the tastes of others are worth to somebody new: accuracy after few answers, with and without a population prior.

Nobody tested is among the others. Beside it, the most that others could tell: as many people as it takes, whose true
utility is known. On a store's real answers (`--data`) everybody is tested with the rest of the store as the others.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..comparisons import PreferenceStore
from ..encoders import load_encoder
from ..taste import BradleyTerry
from ..taste.observed import Observed
from ..taste.population import population_prior
from ..taste.subspace import image_subspace
from ._asking import ByEvidence, accuracy_by_answers, priors_of, taste_of
from ._options import positive, share
from ._replay import observed_pairs, replayed_accuracy
from ._samples import stored_samples
from ._strategies import make_ask
from ._tables import Array, bootstrap_interval, markdown, provenance
from ._world import World, draw_world

__all__ = ["perfect_population", "run"]

_TITLES = {"none": "no prior", "population": "population prior", "perfect": "perfect population"}
_PERFECT = 300  # people whose true utility is known
_RIDGE = 1e-2  # of the pictures' mean square: the true utility of a picture is not quite linear in its vector


def run(argv: Sequence[str]) -> int:
    """Run the study and print its table; returns the exit status."""
    options = _options(argv)
    if options.data is not None:
        return _run_on_answers(argv, options)
    start = time.perf_counter()
    encoder = load_encoder(options.encoder)
    cache = None if options.cache is None else Path(options.cache)
    for shared in options.shared:
        world, others, many = (
            draw_world(encoder, count, options.pictures, options.seed, shared, first, cache)
            for count, first in (
                (options.people, 0),
                (options.others, options.people),
                (options.perfect, options.people + options.others),
            )
        )
        perfect = perfect_population(many)
        priors = priors_of(world, others, options.others_answers, 0.0, options.seed)
        priors["perfect"] = lambda observed, found=perfect: found  # type: ignore[misc]
        accuracy = {
            (name, strategy): np.array(
                [
                    accuracy_by_answers(
                        world, p, "pairs", make_ask(strategy), prior, options.answers, 0.0, options.seed
                    )
                    for p in range(options.people)
                ]
            ).T
            for strategy in ("random", "ours")
            for name, prior in priors.items()
        }
        people = f"{options.people} people, {options.others} others with {options.others_answers} answers each"
        title = f"**{100 * shared:.0f} % of the variance of everybody's utility common to all.** {people}. "
        sys.stdout.write(title + _table(accuracy, options, world.ceiling()))
        sys.stdout.flush()
    sys.stdout.write(f"{time.perf_counter() - start:.0f} seconds. " + provenance("prior", argv, options.seed))
    return 0


def _run_on_answers(argv: Sequence[str], options: argparse.Namespace) -> int:
    """The same for pairs of a store; nobody's true utility is known, so neither the ceiling nor all of a population."""
    sizes: list[int] = options.answers
    most, taught = 2 * max(sizes), options.others_answers
    with PreferenceStore.existing(options.data) as store:
        encoder = load_encoder(options.encoder)
        samples = stored_samples(store, encoder, max(most, taught), 200, options.seed, "--answers and --others-answers")
    subspace = image_subspace(np.concatenate([side for s in samples for side in (s.chosen, s.rejected)]))
    tastes = [taste_of(observed_pairs(s.chosen[:taught], s.rejected[:taught])) for s in samples]
    found = [population_prior([*tastes[:k], *tastes[k + 1 :]][: options.others]) for k in range(len(samples))]
    asked = [replace(s, chosen=s.chosen[:most], rejected=s.rejected[:most]) for s in samples]
    accuracy = {
        (name, strategy): np.array(
            [
                replayed_accuracy(s, strategy, ByEvidence(subspace, known), sizes, options.seed + k)
                for k, (s, known) in enumerate(zip(asked, populations, strict=True))
            ]
        ).T
        for strategy in ("random", "ours")
        for name, populations in (("none", [None] * len(asked)), ("population", found))
    }
    others, alike = min(options.others, len(samples) - 1), sum(one is not None for one in found)
    sys.stdout.write(
        f"{len(samples)} people of the store, each asked some of {most} pairs that they answered; {others} others of "
        f"the store with {taught} answers each, who have something in common for {alike} of the people tested. "
        + _table(accuracy, options, None)
        + provenance("prior", argv, options.seed)
    )
    return 0


@dataclass(frozen=True)
class Population:
    """Normal distribution of people's weights: mean (D,) and covariance (D, D)."""

    mean: Array
    covariance: Array

    def fit(self, observed: Observed) -> BradleyTerry:
        """Learn from a new person's answers."""
        arguments = observed.arguments
        return BradleyTerry().fit(**arguments, prior_mean=self.mean, prior_covariance=self.covariance)


def perfect_population(world: World) -> Population:
    """The distribution of weights of people whose utility is known: the linear part of it, by ridge regression."""
    vectors = world.vectors - world.vectors.mean(axis=0)
    gram = vectors.T @ vectors
    gram[np.diag_indices_from(gram)] += _RIDGE * np.trace(gram) / len(gram)
    utility = world.utility - world.utility.mean(axis=1, keepdims=True)
    weights = np.linalg.solve(gram, vectors.T @ utility.T).T
    mean = weights.mean(axis=0)
    covariance = (weights - mean).T @ (weights - mean) / max(len(weights) - 1, 1)
    covariance[np.diag_indices_from(covariance)] += 1e-3 * np.trace(covariance) / len(covariance)
    return Population(mean, covariance)


def _table(accuracy: dict[tuple[str, str], Array], options: argparse.Namespace, ceiling: float | None) -> str:
    rows = []
    for (name, strategy), found in accuracy.items():
        plain = accuracy["none", strategy]
        cells = []
        for by_person, without in zip(found, plain, strict=True):
            cell = f"{100 * by_person.mean():.1f}"
            if ceiling is not None:
                cell += f" ({100 * (by_person.mean() - 0.5) / (ceiling - 0.5):.0f})"
            if name != "none":
                low, high = bootstrap_interval(by_person - without, options.seed)
                cell += f", {100 * (by_person - without).mean():+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
            cells.append(cell)
        rows.append([f"{_TITLES[name]}, {'random pairs' if strategy == 'random' else 'our pairs'}", *cells])
    reached = (
        "" if ceiling is None else f", (accuracy - 50) / (ceiling - 50) in brackets, ceiling {100 * ceiling:.1f} %"
    )
    return (
        f"Accuracy in %{reached}, and what the prior adds with its 95 % interval over people:\n\n"
        + markdown(["answers", *map(str, options.answers)], rows)
        + "\n"
    )


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="palate study prior", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--people", type=positive, default=40, help="simulated people to test (40)")
    parser.add_argument("--others", type=positive, default=16, help="others, for the population prior (16)")
    parser.add_argument("--others-answers", type=positive, default=100, help="answers of each of them (100)")
    parser.add_argument("--perfect", type=positive, default=_PERFECT, help=f"people known perfectly ({_PERFECT})")
    parser.add_argument("--pictures", type=positive, default=2000, help="drawn postcards to ask about (2000)")
    parser.add_argument("--shared", type=_parts, default=[0.0, 0.3], help="of utility's variance, common (0,0.3)")
    parser.add_argument("--answers", type=_counts, default=[0, 5, 10, 20], help="0,5,10,20")
    parser.add_argument("--data", default=None, help="folder of a store: real people's answers instead")
    parser.add_argument("--cache", default=None, help="folder to keep drawn and encoded pictures in between runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--encoder", "--model", default="playground", help="playground, a CLIP folder or file, ...")
    return parser.parse_args(list(argv))


def _counts(text: str) -> list[int]:
    values = sorted({int(part) for part in text.split(",")})
    if values[0] < 0:
        raise argparse.ArgumentTypeError(f"{values[0]}; expected 0 or more")
    return values


def _parts(text: str) -> list[float]:
    return [share(part) for part in text.split(",")]
