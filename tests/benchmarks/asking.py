"""How long the next pair and the next set of four take among thousands of pictures; a part of `taste_speed.py`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from palate.adapters.taste import BradleyTerry, choose_pair, choose_set

PRIOR = 10.0
CANDIDATES = (2000, 8000)
TIMES = 9


def milliseconds(function: Callable[[], Any]) -> tuple[float, float]:
    """Medians of the time on the clock and of the processor, after one call that doesn't count."""
    times = []
    for _ in range(TIMES + 1):
        start, worked = time.perf_counter(), time.process_time()
        function()
        times.append((time.perf_counter() - start, time.process_time() - worked))
    clock, processor = zip(*times[1:], strict=True)
    return 1000.0 * statistics.median(clock), 1000.0 * statistics.median(processor)


def measure(
    sizes: list[int],
    widths: list[int],
    seed: int,
    answers: Callable[[str, int, int, int], tuple[np.ndarray, np.ndarray]],
) -> None:
    """Print the table; `answers` makes (chosen, rejected) of a kind, a count, a width and a seed."""
    torch.set_num_threads(1)
    print("\n| dimensions | pictures | answers | pair, ms | of the processor | set of four, ms | of the processor |")
    print("| ---: " * 7 + "|")
    for width in widths:
        for size in sizes:
            model = BradleyTerry(PRIOR).fit(*answers("clip-like", size, width, seed))
            _ = model.posterior  # comes with the fit, whatever is asked next
            for count in CANDIDATES:
                candidates = answers("clip-like", count, width, seed + 1)[0].astype(np.float32)
                found = (
                    *milliseconds(lambda m=model, c=candidates: choose_pair(m, c)),
                    *milliseconds(lambda m=model, c=candidates: choose_set(m, c)),
                )
                line = [f"{width}", f"{count:,}", f"{size:,}", *(f"{one:.0f}" for one in found)]
                print("| " + " | ".join(line) + " |", flush=True)
