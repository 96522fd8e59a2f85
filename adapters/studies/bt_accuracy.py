"""`palate study bt-accuracy`: how well a few comparisons predict a person's next ones (arXiv:2308.07929).

A person answers N pairs, both pictures of a pair from one caption. Each method then says, for pairs of other captions,
which picture the person will choose:

- unadapted: the caption's text embedding x; the picture with the larger x . y.
- positive only: one step towards the mean of the chosen pictures, x - step_size * gradient.
- closed-form step: one step along the Bradley-Terry gradient (`adapt_text_embedding`, Gallego 2023).
- posterior: the peak of the Bradley-Terry posterior, weights . y, without text.
- posterior, prior by evidence: the same as `fit_taste` does it, nothing tuned.
- a stranger's taste: the posterior of somebody else with as many answers.
- true utility: the oracle; answers carry noise, so it is the ceiling.

Settings are tuned for each method and N on other people, with as many settings tried for each. What the paper leaves
open: `--support 50,100,200,500` for more answers, `--steps` for how to step, `--encoders` for what else sees pictures.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..comparisons import PreferenceStore
from ..encoders import ImageTextEncoder, load_encoder
from ..steering.embedding import preference_gradient
from ..taste import BradleyTerry
from ..taste.prior import SPREADS, evidence_prior_variance
from ._accuracy_questions import encoder_table, other_encoders, step_table
from ._options import counts, positive
from ._samples import Sample, simulated_samples, stored_samples
from ._tables import Array, bootstrap_interval, markdown, provenance

__all__ = ["run"]

STEP_SIZES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)  # for x of length 1
SCALED_STEPS = ((1.0, 1.0), (1.0, 10.0), (1.0, 100.0), (10.0, 1.0), (100.0, 0.01), (100.0, 0.1), (100.0, 1.0))


@dataclass(frozen=True)
class Method:
    """How one method turns answers into predictions.

    Attributes:
        name: in the table.
        settings: tried on other people; one for nothing to tune.
        log_odds: (sample to learn from, N, sample to test on, setting) -> (T,), above 0 for the left picture.
    """

    name: str
    settings: Sequence[Any]
    log_odds: Callable[[Sample, int, Sample, Any], Array]


def _unadapted(learn: Sample, count: int, test: Sample, setting: Any) -> Array:
    return np.asarray((test.text * test.difference).sum(axis=1))


def _positive(learn: Sample, count: int, test: Sample, step_size: float) -> Array:
    x = test.text + step_size * learn.chosen[:count].mean(axis=0)
    return np.asarray((x * test.difference).sum(axis=1))


def _step(learn: Sample, count: int, test: Sample, setting: tuple[float, float]) -> Array:
    """`adapt_text_embedding` with one step, for all captions at once."""
    logit_scale, step_size = setting
    chosen, rejected = (torch.from_numpy(side[:count]) for side in (learn.chosen, learn.rejected))
    x = torch.from_numpy(test.text)
    x = x - step_size * preference_gradient(x, chosen, rejected, logit_scale)
    return np.asarray((x.numpy() * test.difference).sum(axis=1))


def _posterior(learn: Sample, count: int, test: Sample, spread: float) -> Array:
    chosen, rejected = learn.chosen[:count], learn.rejected[:count]
    square = float(np.mean(np.sum((chosen - rejected) ** 2, axis=1)))
    model = BradleyTerry(spread**2 / square if square > 0 else 1.0).fit(chosen, rejected)
    return np.asarray(test.difference @ model.weights_)


def _by_evidence(learn: Sample, count: int, test: Sample, setting: Any) -> Array:
    chosen, rejected = learn.chosen[:count], learn.rejected[:count]
    model = BradleyTerry(evidence_prior_variance(chosen, rejected)).fit(chosen, rejected)
    return np.asarray(test.difference @ model.weights_)


METHODS = (
    Method("unadapted", (None,), _unadapted),
    Method("positive only", STEP_SIZES, _positive),
    Method("closed-form step", SCALED_STEPS, _step),
    Method("posterior", SPREADS, _posterior),
    Method("posterior, prior by evidence", (None,), _by_evidence),
)


def run(argv: Sequence[str]) -> int:
    """Run the study and print its tables; returns the exit status."""
    options = _options(argv)
    sizes: list[int] = options.support
    encoder = load_encoder(options.encoder)
    tuning, tested = _samples(options, encoder)
    accuracy: dict[str, dict[int, Array]] = {}
    chosen: dict[str, dict[int, Any]] = {}
    cost: dict[str, float] = {}
    for method in METHODS:
        chosen[method.name] = {count: _tune(method, count, tuning) for count in sizes}
        accuracy[method.name] = {
            count: np.array([_accuracy(s, method.log_odds(s, count, s, chosen[method.name][count])) for s in tested])
            for count in sizes
        }
        cost[method.name] = _cost(method, max(sizes), tested, chosen[method.name][max(sizes)])
    if len(tested) > 1:
        accuracy["a stranger's taste"] = {
            count: _strangers(tested, count, chosen["posterior"][count]) for count in sizes
        }
    ceiling = None
    if all(sample.truth is not None for sample in tested):
        per_person = np.array([_accuracy(sample, np.asarray(sample.truth)) for sample in tested])
        accuracy["true utility"] = {count: per_person for count in sizes}
        ceiling = float(per_person.mean())
    sys.stdout.write(_report(argv, options, accuracy, ceiling, chosen, cost, tuning, tested))
    count = 50 if 50 in sizes else max(sizes)
    if options.steps:
        sys.stdout.write("\n" + step_table(tuning, tested, count))
    if options.encoders:
        sys.stdout.write("\n" + _by_encoder(options, encoder, count))
    return 0


def _by_encoder(options: argparse.Namespace, encoder: ImageTextEncoder, count: int) -> str:
    """The same people and pictures as other encoders see them, learned by the posterior."""
    methods, found = [method for method in METHODS if method.name.startswith("posterior")], []
    for name, other in other_encoders(encoder):
        start = time.perf_counter()
        tuning, tested = _samples(options, other)
        seconds, accuracy = time.perf_counter() - start, {}
        for method in methods:
            setting = _tune(method, count, tuning)
            accuracy[method.name] = np.array([_accuracy(s, method.log_odds(s, count, s, setting)) for s in tested])
        found.append((name, other.dim, accuracy, seconds))
    return encoder_table(found, count, options.seed)


def _samples(options: argparse.Namespace, encoder: ImageTextEncoder) -> tuple[list[Sample], list[Sample]]:
    """People to tune on, and others to test on."""
    largest = max(options.support)
    if options.data is None:
        tuning = simulated_samples(
            encoder, options.tuning_people, largest, options.test_pairs, options.captions, options.seed + 10_000
        )
        tested = simulated_samples(encoder, options.people, largest, options.test_pairs, options.captions, options.seed)
        return tuning, tested
    with PreferenceStore.existing(options.data) as store:
        found = stored_samples(store, encoder, largest, options.test_pairs, options.seed)
    return found[::4] if len(found) >= 4 else [], [s for i, s in enumerate(found) if len(found) < 4 or i % 4]


def _tune(method: Method, count: int, people: Sequence[Sample]) -> Any:
    """The setting that is best for these people on average; the middle one when there are none."""
    if len(method.settings) == 1 or not people:
        return method.settings[len(method.settings) // 2]
    means = [np.mean([_accuracy(s, method.log_odds(s, count, s, value)) for s in people]) for value in method.settings]
    return method.settings[int(np.argmax(means))]


def _accuracy(sample: Sample, log_odds: Array) -> float:
    """Share of test answers predicted; an even guess counts half."""
    hits = np.where(log_odds == 0.0, 0.5, (log_odds > 0.0) == sample.left)
    return float(hits.mean())


def _strangers(people: Sequence[Sample], count: int, setting: Any) -> Array:
    others = [*people[1:], people[0]]
    return np.array(
        [_accuracy(s, _posterior(other, count, s, setting)) for s, other in zip(people, others, strict=True)]
    )


def _cost(method: Method, count: int, people: Sequence[Sample], setting: Any) -> float:
    """Median time in ms to learn from `count` answers and predict one person's test answers."""
    times = []
    for sample in people[:20]:
        start = time.perf_counter()
        method.log_odds(sample, count, sample, setting)
        times.append(1000.0 * (time.perf_counter() - start))
    return statistics.median(times)


def _report(
    argv: Sequence[str],
    options: argparse.Namespace,
    accuracy: dict[str, dict[int, Array]],
    ceiling: float | None,
    chosen: dict[str, dict[int, Any]],
    cost: dict[str, float],
    tuning: Sequence[Sample],
    tested: Sequence[Sample],
) -> str:
    sizes = options.support
    header = ["answers learned from", *map(str, sizes)]
    rows, shares, settings = [], [], []
    for name, by_size in accuracy.items():
        cells, share = [], []
        for count in sizes:
            low, high = bootstrap_interval(by_size[count], options.seed)
            mean = float(by_size[count].mean())
            cells.append(f"{100 * mean:.1f} ({100 * low:.1f} to {100 * high:.1f})")
            share.append(str(round(100 * (mean - 0.5) / (ceiling - 0.5))) if ceiling and ceiling > 0.5 else "–")
        rows.append([name, *cells])
        shares.append([name, *share])
        if name in cost:
            settings.append([name, f"{cost[name]:.2f}", *(_setting(chosen[name][count]) for count in sizes)])
    what = "simulated people on drawn postcards" if options.data is None else "people of the store"
    return "\n".join(
        [
            f"Accuracy in % on {options.test_pairs} unseen answers each of {len(tested)} {what} (95 % bootstrap "
            f"interval over people); encoder {options.encoder}; settings tuned on {len(tuning)} others.\n",
            markdown(header, rows),
            "(accuracy - 50) / (ceiling - 50) in %, the ceiling being true utility:\n",
            markdown(header, shares),
            f"Time in ms to learn from {max(sizes)} answers and predict, and the settings tuned for each N "
            "(step size; logit scale x step size; prior's standard deviation of an average pair's log-odds):\n",
            markdown(["method", "ms", *map(str, sizes)], settings),
            provenance("bt-accuracy", argv, options.seed),
        ]
    )


def _setting(value: Any) -> str:
    if value is None:
        return "–"
    return " x ".join(f"{part:g}" for part in value) if isinstance(value, tuple) else f"{value:g}"


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="palate study bt-accuracy", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--people", type=positive, default=40, help="simulated people to test (40)")
    parser.add_argument("--tuning-people", type=positive, default=20, help="others to tune settings on (20)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--test-pairs", type=positive, default=200, help="unseen answers per person (200)")
    parser.add_argument("--support", type=counts, default=[1, 2, 5, 10, 20, 50], help="how many answers: 1,2,5,...")
    parser.add_argument("--captions", type=positive, default=150, help="captions to draw pictures of (150)")
    parser.add_argument(
        "--encoder", "--model", default="playground", help="playground, a CLIP folder or file, open_clip:NAME/TAG"
    )
    parser.add_argument("--data", default=None, help="folder of a store with real people's answers")
    parser.add_argument(
        "--steps", action="store_true", help="also: the closed form by steps, step size and logit scale"
    )
    parser.add_argument("--encoders", action="store_true", help="also: other encoders than this one")
    return parser.parse_args(list(argv))
