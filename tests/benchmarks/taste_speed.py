"""How fast a taste is learned: `python tests/benchmarks/taste_speed.py`; a table, not a test.

Cold fits of `BradleyTerry` beside scikit-learn's LogisticRegression at the same optimum, on two threads, in the same
run and in turns, so that whatever else the machine does slows down all of them. Palate starts from the images' vectors
in float64, as the product does: differences, checks and all. LogisticRegression gets the differences ready, half of
them turned round because it wants two classes, C = prior_variance, no intercept, and the loosest tolerance at which
the objective's gradient is below the limit, or the tightest it can do; the gradient it reached is in the table.

Then how the costs grow with the answers (`growth.py`), what the next question costs among thousands of pictures
(`asking.py`), and a store of a million comparisons (`million.py`). Times are
of one run on one machine, which may do other things: the ratios are what to look at.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import asking
import growth
import million
import numpy as np
import sklearn
from palate.adapters.taste import BradleyTerry, choose_pair
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

LIMIT = 1e-6  # norm of the objective's gradient by the weights
CASES = (("unit", 1.0), ("unit", 10.0), ("clip-like", 1.0), ("clip-like", 10.0), ("normal", 0.01), ("normal", 1.0))


def unit_vectors(generator: np.random.Generator, count: int, width: int, decay: float) -> np.ndarray:
    """(count, width) of length 1; CLIP's spread over its axes falls off, `decay` 0 is none."""
    raw = generator.standard_normal((count, width)) / np.sqrt(1.0 + decay * np.arange(width))
    return raw / np.linalg.norm(raw, axis=1, keepdims=True)


def answers(kind: str, count: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Comparisons by a hidden taste with Bradley-Terry noise; log-odds have a standard deviation of about 2."""
    generator = np.random.default_rng(seed)
    if kind == "normal":
        left, right = generator.standard_normal((2, count, width))
    else:
        left, right = (unit_vectors(generator, count, width, 0.1 * (kind == "clip-like")) for _ in range(2))
    taste = generator.standard_normal(width)
    log_odds = (left - right) @ taste
    log_odds *= 2.0 / log_odds.std()
    won = (generator.random(count) < 1.0 / (1.0 + np.exp(-log_odds)))[:, None]
    return np.where(won, left, right), np.where(won, right, left)


def gradient_norm(weights: np.ndarray, chosen: np.ndarray, rejected: np.ndarray, variance: float) -> float:
    difference = chosen - rejected
    share = 1.0 / (1.0 + np.exp(np.minimum(difference @ weights, 700.0)))
    return float(np.linalg.norm(weights / variance - share @ difference))


def median_ms(functions: list[Callable[[], Any]], repetitions: int) -> list[float]:
    """Medians of so many calls of each, taken in turns, after one call of each that doesn't count."""
    times: list[list[float]] = [[] for _ in functions]
    for repetition in range(repetitions + 1):
        for function, measured in zip(functions, times, strict=True):
            start = time.perf_counter()
            function()
            if repetition:
                measured.append(1000.0 * (time.perf_counter() - start))
    return [statistics.median(measured) for measured in times]


def reference(
    chosen: np.ndarray, rejected: np.ndarray, variance: float, solver: str
) -> tuple[Callable[[], Any], float]:
    """A fit of LogisticRegression with the loosest tolerance that is good enough, and its gradient."""
    sign = np.where(np.arange(len(chosen)) % 2, 1.0, -1.0)
    rows = (chosen - rejected) * sign[:, None]
    for tolerance in (1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-12):
        model = LogisticRegression(C=variance, fit_intercept=False, solver=solver, tol=tolerance, max_iter=100_000)
        model.fit(rows, sign)
        gradient = gradient_norm(model.coef_[0], chosen, rejected, variance)
        if gradient < LIMIT:
            break
    return lambda: model.fit(rows, sign), gradient


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--comparisons", type=int, default=1000)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--repetitions", type=int, default=31)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parts", default="fit,growth,asking,store", help="some of fit,growth,asking,store")
    parser.add_argument("--sizes", default="10,100,1000,10000,100000", help="answers, for growth and asking")
    parser.add_argument("--widths", default="64,768", help="dimensions, for growth and asking")
    parser.add_argument("--stored", type=int, default=1_000_000, help="comparisons in the store")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # lbfgs says so when it can't reach a tolerance; the table shows the gradient
    parts = options.parts.split(",")
    with threadpool_limits(options.threads):
        if "fit" in parts:
            measure(options)
        sizes, widths = ([int(part) for part in text.split(",")] for text in (options.sizes, options.widths))
        if "growth" in parts:
            growth.measure(sizes, widths, options.seed, answers)
        if "asking" in parts:
            asking.measure(sizes, widths, options.seed, answers)
        if "store" in parts:
            million.measure(options.stored, options.seed)
    print(
        f"\n`python {' '.join(['tests/benchmarks/taste_speed.py', *sys.argv[1:]])}` · seed {options.seed} · "
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {options.threads} threads, "
        f"load {os.getloadavg()[0]:.1f} · "
        f"Python {platform.python_version()}, numpy {np.__version__}, scikit-learn {sklearn.__version__}"
    )
    return 0


def measure(options: argparse.Namespace) -> None:
    size = f"{options.comparisons} comparisons, {options.width} dimensions"
    print(f"{size}, float64; medians of {options.repetitions} in ms, gradient norms\n")
    print("| vectors | prior variance | Palate | gradient | lbfgs | gradient | ratio | newton-cg | gradient | ratio |")
    print("| --- " + "| ---: " * 9 + "|")
    for kind, variance in CASES:
        chosen, rejected = answers(kind, options.comparisons, options.width, options.seed)
        model = BradleyTerry(variance)
        gradient = gradient_norm(model.fit(chosen, rejected).weights_, chosen, rejected, variance)
        others = [reference(chosen, rejected, variance, solver) for solver in ("lbfgs", "newton-cg")]
        fits = [lambda m=model, c=chosen, r=rejected: m.fit(c, r), *(fit for fit, _ in others)]
        ours, *theirs = median_ms(fits, options.repetitions)
        line = [kind, f"{variance:g}", f"{ours:.1f}", f"{gradient:.0e}"]
        for took, (_, reached) in zip(theirs, others, strict=True):
            line += [f"{took:.1f}", f"{reached:.0e}", f"{took / ours:.1f}"]
        print("| " + " | ".join(line) + " |", flush=True)
    chosen, rejected = answers("clip-like", 100, options.width, options.seed)
    model = BradleyTerry(10.0).fit(chosen, rejected)
    candidates = unit_vectors(np.random.default_rng(1), 200, options.width, 0.1)
    again, pair = median_ms(
        [lambda: BradleyTerry(10.0).fit(chosen, rejected), lambda: choose_pair(model, candidates)], options.repetitions
    )
    print(f"\nAfter 100 comparisons: fit {again:.1f} ms, choose_pair among 200 candidates {pair:.1f} ms")


if __name__ == "__main__":
    raise SystemExit(main())
