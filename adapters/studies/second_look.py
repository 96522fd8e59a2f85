"""`palate study second-look`: how many planted mistakes are found among a person's answers.

A person answers N pairs of pictures, each pair from one caption, with the noise that everybody has. Then a share of the
answers, drawn by chance, is turned over: those are the mistakes to find. Each detector sees the answers alone and ranks
them by how odd they look; it calls as many as gives 10 % false alarms among the answers that nobody touched. The oracle
knows the true utilities, and misses what the noise hides: a slip on two equally liked pictures can't be told.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from zlib import crc32

import numpy as np

from ..comparisons import PreferenceStore
from ..encoders import load_encoder
from ..taste.second_look import LIKELY
from ._detectors import DETECTORS, Flags, found_at, shown_of
from ._options import counts, positive
from ._samples import Sample, simulated_samples, stored_samples
from ._tables import Array, bootstrap_interval, markdown, provenance

__all__ = ["plant", "run"]

_TESTS = 1  # answers to test on; nothing is tested here
_ORACLE = "oracle: true utility"


def run(argv: Sequence[str]) -> int:
    """Run the study and print its tables; returns the exit status."""
    options = _options(argv)
    people = _samples(options)
    cases = [(count, rate) for count in options.support for rate in options.mistakes]
    found: dict[str, dict[tuple[int, float], Array]] = {name: {} for name in (*DETECTORS, _ORACLE)}
    shown: dict[tuple[int, float], Array] = {}
    for case in cases:
        measured = np.array([_measure(sample, case, options) for sample in people])
        for column, name in enumerate(found):
            found[name][case] = measured[:, column]
        shown[case] = measured[:, len(found) :]
    if any(sample.given is None for sample in people):
        del found[_ORACLE]
    sys.stdout.write(_report(argv, options, len(people), cases, found, shown))
    return 0


def plant(sample: Sample, count: int, rate: float, generator: np.random.Generator) -> tuple[Array, Array, Flags]:
    """Turn a share of the first `count` answers over.

    Returns:
        rows (N, D) chosen minus rejected; given (N,) true log-odds of what was chosen, NaN for real people; planted
        (N,) which were turned over.
    """
    planted = np.zeros(count, dtype=bool)
    planted[generator.choice(count, round(rate * count), replace=False)] = True
    sign = np.where(planted, -1.0, 1.0)
    given = np.full(count, np.nan) if sample.given is None else sign * sample.given[:count]
    return sign[:, None] * (sample.chosen - sample.rejected)[:count], given, planted


def _measure(sample: Sample, case: tuple[int, float], options: argparse.Namespace) -> Array:
    """Means over draws: found by each detector and the oracle; shown, planted among them, against the true utility."""
    count, rate = case
    draws = []
    for draw in range(options.draws):
        generator = np.random.default_rng(
            [options.seed, draw, count, round(1000 * rate), crc32(sample.person.encode())]
        )
        rows, given, planted = plant(sample, count, rate, generator)
        share = [found_at(detect(rows), planted, options.false_alarms) for detect in DETECTORS.values()]
        share.append(found_at(-given, planted, options.false_alarms) if sample.given is not None else np.nan)
        called = shown_of(rows, LIKELY)
        draws.append([*share, called.sum(), (called & planted).sum(), (called & (given < 0.0)).sum()])
    return np.asarray(np.mean(draws, axis=0))


def _samples(options: argparse.Namespace) -> list[Sample]:
    encoder, largest = load_encoder(options.encoder), max(options.support)
    if options.data is None:
        return simulated_samples(encoder, options.people, largest, _TESTS, options.captions, options.seed)
    with PreferenceStore.existing(options.data) as store:
        return stored_samples(store, encoder, largest, _TESTS, options.seed)


def _report(
    argv: Sequence[str],
    options: argparse.Namespace,
    people: int,
    cases: list[tuple[int, float]],
    found: dict[str, dict[tuple[int, float], Array]],
    shown: dict[tuple[int, float], Array],
) -> str:
    header = ["detector", *(f"{count} answers, {100 * rate:g} %" for count, rate in cases)]
    rows = []
    for name, by_case in found.items():
        cells = []
        for case in cases:
            low, high = bootstrap_interval(by_case[case], options.seed)
            cells.append(f"{100 * by_case[case].mean():.0f} ({100 * low:.0f} to {100 * high:.0f})")
        rows.append([name, *cells])
    totals = [shown[case].sum(axis=0) for case in cases]
    of_shown = [["shown, per person", *(f"{total[0] / people:.1f}" for total in totals)]]
    of_shown.append(["planted, % of them", *(_share(total[1], total[0]) for total in totals)])
    if _ORACLE in found:
        of_shown.append(["against the true utility, %", *(_share(total[2], total[0]) for total in totals)])
    what = "simulated people on drawn postcards" if options.data is None else "people of the store"
    return "\n".join(
        [
            f"Planted mistakes found, in %, at {100 * options.false_alarms:g} % false alarms, by {people} {what} "
            f"(95 % bootstrap interval over people), {options.draws} draws each; encoder {options.encoder}.\n",
            markdown(header, rows),
            f"What `second_look` shows again (probability of a slip above {LIKELY:g}):\n",
            markdown(["", *header[1:]], of_shown),
            provenance("second-look", argv, options.seed),
        ]
    )


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f}" if whole > 0 else "–"


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="palate study second-look", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--people", type=positive, default=40, help="simulated people (40)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--support", type=counts, default=[40, 100, 200], help="how many answers: 40,100,200")
    parser.add_argument("--mistakes", type=_percents, default=[0.1, 0.2], help="planted, in %%: 10,20")
    parser.add_argument("--false-alarms", type=_percent, default=0.1, help="in %% of the others (10)")
    parser.add_argument("--draws", type=positive, default=5, help="mistakes are planted anew so often (5)")
    parser.add_argument("--captions", type=positive, default=150, help="captions to draw pictures of (150)")
    parser.add_argument(
        "--encoder", "--model", default="playground", help="playground, a CLIP folder or file, open_clip:NAME/TAG"
    )
    parser.add_argument("--data", default=None, help="folder of a store with real people's answers")
    return parser.parse_args(list(argv))


def _percent(text: str) -> float:
    value = float(text)
    if not 0.0 < value < 50.0:
        raise argparse.ArgumentTypeError(f"{text}; expected more than 0 and less than 50 %")
    return value / 100.0


def _percents(text: str) -> list[float]:
    return sorted({_percent(part) for part in text.split(",")})
