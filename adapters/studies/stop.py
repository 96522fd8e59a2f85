"""`palate study stop`: how often "good enough" is said too early or too late.

A person answers random pairs, both pictures of a pair from one caption. As the answers grow, the taste is fitted and
`enough` is asked; the first yes counts. True accuracy is the share of answers to pairs of other captions that the taste
gets right, exactly: the mean over those pairs of the probability that the person chooses what the taste prefers.

- too early: 50, or 100, more answers would still have raised true accuracy by more than 2 points.
- needed: where the next 100 answers raise it by no more than 2 points, on the curve a - b / (1 + answers / c) that fits
  the person's accuracies best; single accuracies go up and down by chance. Too late: after more than twice as many.

Beside it: always stopping after one number of answers, the best for other people, and an oracle that stops where no
more are needed. A mistake is an answer given at random.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np

from ..comparisons import PreferenceStore
from ..encoders import load_encoder
from ..taste import BradleyTerry
from ..taste.enough import advise
from ..taste.likelihood import sigmoid
from ..taste.prior import evidence_prior_variance
from ._options import percents, positive
from ._samples import Sample, simulated_samples, stored_samples
from ._tables import Array, bootstrap_interval, markdown, provenance

__all__ = ["Course", "needed", "run"]

RAISE = 0.02  # of accuracy that 50 or 100 more answers should bring to be worth it
AHEAD = 100
COUNTS = (*range(10, 100, 10), *range(100, 300, 20), *range(300, 1001, 50))  # answers at which it is asked


@dataclass(frozen=True)
class Course:
    """How one person's taste grew.

    Attributes:
        counts: (C,) answers.
        accuracy: (C,) true accuracy after so many.
        enough: (C,) whether it was called enough.
    """

    counts: Array
    accuracy: Array
    enough: tuple[bool, ...]

    @property
    def said(self) -> float:
        """Answers at the first yes; the last count when there was none."""
        return float(self.counts[self.enough.index(True)]) if any(self.enough) else float(self.last)

    @property
    def last(self) -> float:
        """The last count that `AHEAD` more were still given after."""
        return float(self.counts[-1]) - AHEAD

    def raised(self, after: float, more: float) -> float:
        """How much accuracy so many more answers added."""
        now, then = np.interp([after, after + more], self.counts, self.accuracy)
        return float(then - now)


def run(argv: Sequence[str]) -> int:
    """Run the study and print its table; returns the exit status."""
    options = _options(argv)
    tuning, tested = _samples(options)
    rows = []
    for rate in options.mistakes:
        courses = [_course(sample, rate, options, ask=True) for sample in tested]
        others = [_course(sample, rate, options, ask=False) for sample in tuning]
        rows.append([f"**{100 * rate:g} % mistakes**", *[""] * 7])
        rows.append(_row("`enough`", courses, lambda course: course.said, options.seed))
        if others:
            fixed = _fixed(others)
            rows.append(_row(f"always after {fixed:g}", courses, lambda _: fixed, options.seed))  # noqa: B023
        rows.append(_row("oracle: where needed", courses, needed, options.seed))
    sys.stdout.write(_report(argv, options, len(tested), len(tuning), rows))
    return 0


def needed(course: Course) -> float:
    """Answers after which the next 100 add no more than 2 points, on the smooth curve through the accuracies.

    accuracy = a - b / (1 + answers / c), by least squares; c among 40 values from 5 to 1,000.
    """
    best, smooth = np.inf, course.accuracy
    counts = np.arange(10.0, course.last + 1.0, 5.0)
    later = counts
    for scale in np.geomspace(5.0, 1000.0, 40):
        table = np.stack([np.ones(len(course.counts)), -1.0 / (1.0 + course.counts / scale)], axis=1)
        found, *_ = np.linalg.lstsq(table, course.accuracy, rcond=None)
        error = float(np.sum((table @ found - course.accuracy) ** 2))
        if error < best:
            best = error
            smooth = -found[1] / (1.0 + counts / scale)
            later = -found[1] / (1.0 + (counts + AHEAD) / scale)
    flat = np.flatnonzero(later - smooth <= RAISE)
    return float(counts[flat[0]]) if len(flat) else course.last


def _course(sample: Sample, rate: float, options: argparse.Namespace, ask: bool) -> Course:
    """Fit after each of COUNTS answers, a share of them given at random."""
    generator = np.random.default_rng([options.seed, round(1000 * rate), crc32(sample.person.encode())])
    turned = generator.random(len(sample.chosen)) < rate / 2.0  # a coin agrees half of the time
    chosen = np.where(turned[:, None], sample.rejected, sample.chosen)
    rejected = np.where(turned[:, None], sample.chosen, sample.rejected)
    counts = [count for count in COUNTS if count <= len(chosen)]
    accuracy: list[float] = []
    enough: list[bool] = []
    for count in counts:
        first, second = chosen[:count], rejected[:count]
        model = BradleyTerry(evidence_prior_variance(first, second)).fit(first, second)
        accuracy.append(_accuracy(sample, model))
        pictures = np.unique(np.concatenate([first, second]), axis=0) if ask and not any(enough) else first[:0]
        enough.append(bool(len(pictures)) and advise(model, pictures, count).enough)
    return Course(np.asarray(counts, dtype=np.float64), np.asarray(accuracy), tuple(enough))


def _accuracy(sample: Sample, model: BradleyTerry) -> float:
    """Exact for simulated people, the share of held-out answers for real ones; an even guess counts half."""
    log_odds = sample.difference @ model.weights_
    left = sigmoid(sample.truth) if sample.truth is not None else np.asarray(sample.left, dtype=np.float64)
    right = np.where(log_odds > 0.0, left, 1.0 - left)
    return float(np.where(log_odds == 0.0, 0.5, right).mean())


def _fixed(courses: Sequence[Course]) -> float:
    """The one number of answers that is too early or too late for the fewest of these people; of equals the lowest."""
    candidates = [float(count) for count in courses[0].counts if count <= courses[0].last]
    ends = [needed(course) for course in courses]

    def wrong(count: float) -> int:
        pairs = zip(courses, ends, strict=True)
        return sum(course.raised(count, AHEAD) > RAISE or count > 2.0 * end for course, end in pairs)

    return min(candidates, key=wrong)


def _row(name: str, courses: Sequence[Course], stop: Callable[[Course], float], seed: int) -> list[str]:
    stops = np.array([min(stop(course), course.last) for course in courses])
    ends = np.array([needed(course) for course in courses])
    shares = [
        np.array([course.raised(after, 50) > RAISE for course, after in zip(courses, stops, strict=True)]),
        np.array([course.raised(after, AHEAD) > RAISE for course, after in zip(courses, stops, strict=True)]),
        stops < ends,
        stops > 2.0 * ends,
    ]
    left = np.array([100.0 * course.raised(after, AHEAD) for course, after in zip(courses, stops, strict=True)])
    low, high = np.percentile(stops, [5, 95])
    return [
        name,
        f"{np.median(stops):.0f} ({low:.0f} to {high:.0f})",
        f"{np.median(ends):.0f}",
        *(_interval(100.0 * share, seed, "{:.0f}") for share in shares),
        _interval(left, seed, "{:.1f}"),
    ]


def _interval(values: Array, seed: int, form: str) -> str:
    low, high = bootstrap_interval(values, seed)
    return f"{form} ({form} to {form})".format(float(values.mean()), low, high)


def _samples(options: argparse.Namespace) -> tuple[list[Sample], list[Sample]]:
    """People to choose the fixed number on, and others to test on."""
    encoder, most = load_encoder(options.encoder), options.most
    if options.data is None:
        shape = (most, options.test_pairs, options.captions)
        return (
            simulated_samples(encoder, options.tuning_people, *shape, options.seed + 10_000),
            simulated_samples(encoder, options.people, *shape, options.seed),
        )
    with PreferenceStore.existing(options.data) as store:
        found = stored_samples(store, encoder, most, options.test_pairs, options.seed, "--most")
    return found[::4] if len(found) >= 4 else [], [s for i, s in enumerate(found) if len(found) < 4 or i % 4]


def _report(argv: Sequence[str], options: argparse.Namespace, people: int, tuning: int, rows: list[list[str]]) -> str:
    header = [
        "stops", "after answers", "needed", "too early: 50 more, %", "100 more, %", "before needed, %", "too late, %",
        "points that 100 more add",
    ]  # fmt: skip
    what = "simulated people on drawn postcards" if options.data is None else "people of the store"
    return "\n".join(
        [
            f"When to stop, of {people} {what} (95 % bootstrap interval over people; after answers: median, 5 and 95 "
            f"%); up to {options.most} answers; encoder {options.encoder}; the fixed number is of {tuning} others.\n",
            markdown(header, rows),
            provenance("stop", argv, options.seed),
        ]
    )


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="palate study stop", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--people", type=positive, default=40, help="simulated people to test (40)")
    parser.add_argument("--tuning-people", type=positive, default=20, help="others to choose a fixed number on (20)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mistakes", type=percents, default=[0.0, 0.1, 0.2], help="in %%: 0,10,20")
    parser.add_argument("--most", type=_many, default=700, help="answers each (700)")
    parser.add_argument("--test-pairs", type=positive, default=1000, help="unseen pairs per person (1000)")
    parser.add_argument("--captions", type=positive, default=150, help="captions to draw pictures of (150)")
    parser.add_argument(
        "--encoder", "--model", default="playground", help="playground, a CLIP folder or file, open_clip:NAME/TAG"
    )
    parser.add_argument("--data", default=None, help="folder of a store with real people's answers")
    return parser.parse_args(list(argv))


def _many(text: str) -> int:
    value = positive(text)
    if value < AHEAD + 20:
        raise argparse.ArgumentTypeError(f"{value}; expected {AHEAD + 20} or more: it looks {AHEAD} answers ahead")
    return value
