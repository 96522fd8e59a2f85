"""How the cost of a refit and of the next pair grows with answers; a part of `taste_speed.py`.

Beside Palate, at the same objective:

- scikit-learn's LogisticRegression on vectors (lbfgs, C = prior_variance, no intercept, differences made before, and a
  tolerance, which it has on the mean over answers, that asks for a gradient as small as Palate's: the table says what
  each reached);
- choix's `opt_pairwise`, which knows items, not vectors: it gets as many items as there are dimensions, Palate the same
  items as one-hot vectors. Its penalty `alpha` is 1 / (2 prior_variance). It is left out where it isn't installed.
"""

from __future__ import annotations

import gc
import statistics
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
from palate.adapters.taste import BradleyTerry, choose_pair
from sklearn.linear_model import LogisticRegression

PRIOR = 10.0
GRADIENT = 1e-6  # of the objective, by the weights
MOST_ITEMS = 10_000  # answers about items: more take choix minutes
CANDIDATES = 2000
BUDGET = 3.0  # seconds for the repetitions of one number; one that takes longer is taken once


def clock(functions: list[Callable[[], Any]]) -> list[float]:
    """Medians in ms, the functions called in turns, after one call of each that doesn't count."""
    times: list[list[float]] = [[] for _ in functions]
    started = time.perf_counter()
    rounds = 0
    while rounds < 2 or (time.perf_counter() - started < BUDGET and rounds < 32):
        for function, measured in zip(functions, times, strict=True):
            start = time.perf_counter()
            function()
            measured.append(1000.0 * (time.perf_counter() - start))
        rounds += 1
    return [statistics.median(measured[1:]) for measured in times]


def peak_mb(function: Callable[[], Any]) -> float:
    """Memory that a call takes beside its arguments, at most, in MB."""
    gc.collect()
    tracemalloc.start()
    function()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def gradient(weights: np.ndarray, chosen: np.ndarray, rejected: np.ndarray) -> float:
    """Norm of the objective's gradient."""
    difference = chosen - rejected
    share = 1.0 / (1.0 + np.exp(np.minimum(difference @ weights, 700.0)))
    return float(np.linalg.norm(weights / PRIOR - share @ difference))


def on_vectors(chosen: np.ndarray, rejected: np.ndarray, candidates: np.ndarray) -> list[float]:
    """ms of a refit by Palate and by scikit-learn, gradients of both; ms of posterior and next pair; MB of both."""
    sign = np.where(np.arange(len(chosen)) % 2, 1.0, -1.0)
    rows = (chosen - rejected) * sign[:, None]
    other = LogisticRegression(C=PRIOR, fit_intercept=False, tol=GRADIENT / len(chosen), max_iter=100_000)
    model = BradleyTerry(PRIOR)
    ours, theirs = clock([lambda: model.fit(chosen, rejected), lambda: other.fit(rows, sign)])
    model.fit(chosen, rejected)
    start = time.perf_counter()
    _ = model.posterior
    posterior = 1000.0 * (time.perf_counter() - start)
    (pair,) = clock([lambda: choose_pair(model, candidates)])
    refit = peak_mb(lambda: BradleyTerry(PRIOR).fit(chosen, rejected))
    left = [gradient(weights, chosen, rejected) for weights in (model.weights_, other.coef_[0])]
    return [ours, theirs, *left, posterior, pair, refit, peak_mb(lambda: choose_pair(model, candidates))]


def on_items(count: int, items: int, seed: int) -> list[float] | None:
    """ms of a fit of items by Palate and by choix, and the largest difference between their utilities."""
    try:
        import choix
    except ImportError:
        return None
    if count > MOST_ITEMS:
        return None
    rng = np.random.default_rng(seed)
    taste = rng.standard_normal(items)
    first = rng.integers(0, items, count)
    second = (first + rng.integers(1, items, count)) % items
    won = rng.random(count) < 1.0 / (1.0 + np.exp(taste[second] - taste[first]))
    winner, loser = np.where(won, first, second), np.where(won, second, first)
    data = list(zip(winner.tolist(), loser.tolist(), strict=True))
    chosen, rejected = np.eye(items)[winner], np.eye(items)[loser]
    variance = 1.0
    model = BradleyTerry(variance)
    fit = lambda: choix.opt_pairwise(items, data, alpha=0.5 / variance, method="Newton-CG", tol=1e-8)  # noqa: E731
    ours, theirs = clock([lambda: model.fit(chosen, rejected), fit])
    found = fit()
    return [ours, theirs, float(np.abs((model.weights_ - model.weights_.mean()) - (found - found.mean())).max())]


def exponent(sizes: list[int], values: list[float]) -> float:
    """The power of the number of answers with which a cost grows, by least squares of logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def measure(
    sizes: list[int],
    widths: list[int],
    seed: int,
    answers: Callable[[str, int, int, int], tuple[np.ndarray, np.ndarray]],
) -> None:
    """Print the tables; `answers` makes (chosen, rejected) of a kind, a count, a width and a seed."""
    for width in widths:
        print(f"\n{width} dimensions, {CANDIDATES} candidates for the next pair; medians in ms, memory in MB\n")
        columns = ["answers", "refit", "gradient", "scikit-learn", "gradient", "ratio", "posterior", "next pair"]
        columns += ["memory of refit", "of next pair", "items: refit", "choix", "ratio", "differ by"]
        print("| " + " | ".join(columns) + " |")
        print("| --- " + "| ---: " * 13 + "|")
        candidates = answers("clip-like", CANDIDATES, width, seed + 1)[0].astype(np.float32)
        table = []
        for size in sizes:
            found = on_vectors(*answers("clip-like", size, width, seed), candidates)
            table.append(found)
            ours, theirs, left, their_left, posterior, pair, refit_mb, pair_mb = found
            line = [f"{size:,}", f"{ours:.2f}", f"{left:.0e}", f"{theirs:.2f}", f"{their_left:.0e}"]
            line += [f"{theirs / ours:.1f}", f"{posterior:.1f}", f"{pair:.1f}", f"{refit_mb:.1f}", f"{pair_mb:.1f}"]
            items = on_items(size, width, seed)
            line += ["–"] * 4 if items is None else _items(items)
            print("| " + " | ".join(line) + " |", flush=True)
        large = [k for k, size in enumerate(sizes) if size >= 1000]
        if len(large) > 1:
            grows = [exponent([sizes[k] for k in large], [table[k][column] for k in large]) for column in (0, 1)]
            print(
                f"\nFrom {sizes[large[0]]:,} answers on, a refit's time grows with the answers to the power of "
                f"{grows[0]:.2f}; scikit-learn's {grows[1]:.2f}."
            )


def _items(found: list[float]) -> list[str]:
    ours, theirs, apart = found
    return [f"{ours:.2f}", f"{theirs:.1f}", f"{theirs / ours:.0f}", f"{apart:.0e}"]
