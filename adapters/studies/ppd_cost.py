"""`palate study ppd-cost`: what a user costs a denoising step, at the true shapes of SD1.5 and SDXL.

Beside the bare model and an IP-Adapter of as many tokens, in one run. Multiplications are counted on shapes alone; on a
GPU each step is timed, too, in float16, the arms taking turns so that whatever slows the machine slows all of them.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ._options import positive
from ._ppd_cost_arms import ARMS, MODELS, Model, Step, arm, build
from ._tables import Array, bootstrap_interval, markdown, provenance

__all__ = ["Cost", "count", "run", "timed"]

AIM = 1.03  # of the bare step


@dataclass(frozen=True, eq=False)
class Cost:
    """What one arm costs.

    Attributes:
        flops: Floating-point operations of matrix products, convolutions and attention in one step.
        held: Bytes beside the model for as long as a run takes.
        seconds: (repeats,) of a step; empty where nothing was timed.
        peak: Bytes at most while a step runs; 0 where not known.
    """

    flops: int
    held: int
    seconds: Array
    peak: int = 0


def run(argv: Sequence[str]) -> int:
    """Run the study and print its table; returns the exit status."""
    options = _options(argv)
    start = time.perf_counter()
    device = options.device if options.device != "auto" else "cuda" if torch.cuda.is_available() else "meta"
    for name in options.models:
        for batch in options.batches:
            for tokens in options.tokens:
                model = MODELS[name]
                costs = count(model, batch, tokens)
                if device != "meta":
                    costs = timed(costs, build(model, device, batch, tokens), options.repeats)
                sys.stdout.write(_table(model, batch, tokens, costs, options.seed))
                sys.stdout.flush()
    sys.stdout.write(f"{time.perf_counter() - start:.0f} seconds. " + provenance("ppd-cost", argv, options.seed))
    return 0


def count(model: Model, batch: int, tokens: int) -> dict[str, Cost]:
    """Count each arm's operations on shapes alone.

    Args:
        model: Which.
        batch: Pictures, >= 1; a step has twice as many rows.
        tokens: K, of a user and of the IP-Adapter.
    """
    from torch.utils.flop_counter import FlopCounterMode

    step = build(model, "meta", batch, tokens)
    costs = {}
    for name in ARMS:
        with arm(name, step) as (ready, held), FlopCounterMode(display=False) as counter:
            ready()
        # On shapes everything is float32; a GPU holds half of it.
        costs[name] = Cost(counter.get_total_flops(), held // 2, np.empty(0))
    return costs


def timed(costs: dict[str, Cost], step: Step, repeats: int) -> dict[str, Cost]:
    """Add seconds, and on a GPU the peak memory, of steps that take turns.

    Args:
        costs: From `count`.
        step: From `build`, on the device to be timed.
        repeats: Steps of each arm that count; two before them don't.
    """
    seconds: dict[str, list[float]] = {name: [] for name in costs}
    peaks = dict.fromkeys(costs, 0)
    for repeat in range(repeats + 2):
        for name in costs:
            with arm(name, step) as (ready, _):
                spent, peak = _clocked(ready, step.latents.device)
            if repeat >= 2:
                seconds[name].append(spent)
                peaks[name] = max(peaks[name], peak)
    return {n: Cost(cost.flops, cost.held, np.array(seconds[n]), peaks[n]) for n, cost in costs.items()}


def _clocked(call: Callable[[], Any], device: torch.device) -> tuple[float, int]:
    gpu = device.type == "cuda"
    if gpu:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    start = time.perf_counter()
    call()
    if gpu:
        torch.cuda.synchronize(device)
    return time.perf_counter() - start, torch.cuda.max_memory_allocated(device) if gpu else 0


def _table(model: Model, batch: int, tokens: int, costs: dict[str, Cost], seed: int) -> str:
    bare = costs["the bare model"]
    clock = bool(len(bare.seconds))
    rows = []
    for name, cost in costs.items():
        cells = [f"{cost.flops / 1e12:.4f}", f"{cost.flops / bare.flops:.4f}", f"{cost.held / 1e6:.1f}"]
        if clock:
            ratios = cost.seconds / bare.seconds
            low, high = bootstrap_interval(ratios, seed)
            cells += [f"{1000 * float(np.median(cost.seconds)):.1f}", f"{ratios.mean():.4f} ({low:.4f} to {high:.4f})"]
            cells.append(f"{cost.peak / 1e6:.0f}" if cost.peak else "–")
        rows.append([name, *cells])
    header = ["", "TFLOPs", "of the bare step", "held, MB"]
    header += ["median ms", "of the bare step's time", "peak MB"] if clock else []
    dearest = max(cost.flops for name, cost in costs.items() if name.startswith("a user")) / bare.flops
    verdict = f"Aim: at most {AIM}; the dearer of the two ways is at {dearest:.4f}."
    pictures = f"{batch} picture{'s' if batch > 1 else ''}"
    return f"**{model.title}, {pictures} with guidance, {tokens} tokens.** {verdict}\n\n{markdown(header, rows)}\n"


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="palate study ppd-cost", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--models", type=_models, default=list(MODELS), help=",".join(MODELS))
    parser.add_argument("--batches", type=_counts, default=[1, 8], help="pictures a step (1,8)")
    parser.add_argument("--tokens", type=_counts, default=[4, 29], help="of a user (4,29)")
    parser.add_argument("--device", choices=("auto", "meta", "cpu", "cuda"), default="auto", help="meta: count only")
    parser.add_argument("--repeats", type=positive, default=50, help="timed steps of each arm (50)")
    parser.add_argument("--seed", type=int, default=0, help="of the intervals")
    return parser.parse_args(list(argv))


def _counts(text: str) -> list[int]:
    return [positive(part) for part in text.split(",")]


def _models(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in MODELS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]}; expected some of {', '.join(MODELS)}")
    return names
