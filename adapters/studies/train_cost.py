"""`palate study train-cost`: what a step of each loss costs, beside the same step as the papers' scripts take it.

At the shapes of Stable Diffusion 1.5 and XL operations and bytes are counted on models without weights, so no such
model and no GPU is needed. Steps are timed in turns in one run, on the playground or, with `--timed`, at those shapes
with random weights, each kind in a process of its own that tells how much memory it took.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from ._options import positive
from ._plain_steps import STEPS, Measured, Setup, measure_alone
from ._shapes import SHAPES, Passes, count_passes
from ._tables import markdown, provenance

__all__ = ["costs", "run"]

_RIVALS = ("script: MaPO, LoRA", "script: Diffusion-DPO, LoRA")
_TIMED_RIVAL = "as Diffusion-DPO's script"
_SMALL = 128  # pixels, the playground's


def run(argv: Sequence[str]) -> int:
    """Run the study and print its tables; returns the exit status."""
    options = _options(argv)
    for name in options.shapes:
        sys.stdout.write(_counted(name, count_passes(SHAPES[name], options.rank)))
        sys.stdout.flush()
    if options.repeats:
        sys.stdout.write(_timed(options))
    sys.stdout.write(provenance("train-cost", argv, options.seed))
    return 0


def costs(passes: Passes) -> dict[str, tuple[float, float]]:
    """Operations and bytes of a step with one pair, by what it trains with.

    Bytes are weights in 16 bits, what is trained in 32 bits with its gradient and AdamW's two averages, and what waits
    for the backward pass; nothing is computed again, but where it says checkpointing, and nothing is offloaded. With
    int8 frozen weights are held in a byte each.
    """
    p = passes
    step, full = p.forward + p.backward, p.forward + p.full_backward
    lean, spared = step + p.lean, step + p.again
    at_work = 2.0 * p.unet + 16.0 * p.lora + p.held
    # All weights: in 32 bits with gradient and averages; a second model in 16 bits is the reference.
    whole = 16.0 * p.unet + p.full_held
    every_step, with_encoders = p.images + p.text, 2.0 * (p.vae + p.texts)
    scripts = 2.0 * p.unet + 16.0 * p.lora + p.plain_held + with_encoders
    return {
        "Palate: sft, mapo": (lean, at_work),
        "Palate: sft, mapo, checkpointing": (spared, 2.0 * p.unet + 16.0 * p.lora + p.spared),
        "Palate: sft, mapo, int8": (lean, at_work - 2.0 * p.unet + p.in_bytes),
        "Palate: sft, mapo, checkpointing, int8": (spared, p.in_bytes + 16.0 * p.lora + p.spared),
        "Palate: dpo, cdpo, rdpo, ipo, kto, rpo": (lean + p.forward, at_work),
        "Palate: the same with fixed noise": (lean, at_work),
        "Palate: adaptive_dpo": (lean + 3.0 * p.forward, at_work + 8.0 * p.lora),
        _RIVALS[0]: (step + every_step, scripts),
        _RIVALS[1]: (step + p.forward + every_step, scripts),
        "script: Adaptive-DPO, LoRA": (step + 3.0 * p.forward + every_step, scripts + 8.0 * p.lora),
        "script: MaPO, all weights": (full + every_step, whole + with_encoders),
        "script: Diffusion-DPO, all weights": (full + p.forward + every_step, whole + 2.0 * p.unet + with_encoders),
    }


def _counted(name: str, passes: Passes) -> str:
    found = costs(passes)
    mapo, dpo = (found[rival] for rival in _RIVALS)
    rows = [
        [
            what,
            f"{work / 1e12:.2f}",
            f"{100 * work / mapo[0]:.0f} %",
            f"{100 * work / dpo[0]:.0f} %",
            f"{size / 1e9:.1f}",
            f"{100 * size / dpo[1]:.0f} %",
        ]
        for what, (work, size) in found.items()
    ]
    header = [
        f"{name}, {SHAPES[name].size} pixels",
        "TFLOP a pair",
        "of MaPO's script",
        "of DPO's script",
        "GB",
        "of DPO's",
    ]
    return markdown(header, rows) + "\n"


def _timed(options: argparse.Namespace) -> str:
    bfloat16 = options.bfloat16 or options.device != "cpu"
    found = ""
    for model in options.timed:
        setup = Setup(
            model,
            options.pixels or (SHAPES[model].size if model in SHAPES else _SMALL),
            options.pairs,
            options.rank,
            options.device,
            bfloat16,
            options.checkpointing,
            torch.get_num_threads(),
            options.seed,
        )
        arms = [name for name in STEPS if name in (*options.arms, _TIMED_RIVAL)]
        rounds = [{name: measure_alone(name, setup, 1) for name in arms} for _ in range(options.repeats)]
        found += _clock_table(setup, rounds)
    return found


def _clock_table(setup: Setup, rounds: Sequence[Mapping[str, Measured]]) -> str:
    times = {name: [one[name].seconds[0] for one in rounds] for name in rounds[0]}
    first = np.array(times[_TIMED_RIVAL])
    rows = []
    for name, seconds in times.items():
        ratio = np.array(seconds) / first
        spread = "" if name == _TIMED_RIVAL else f" ({ratio.min():.2f} to {ratio.max():.2f})"
        peak = max(one[name].peak for one in rounds)
        cells = [f"{np.median(seconds):.2f}", f"{np.median(ratio):.2f}{spread}", f"{peak / 1e9:.1f}" if peak else "–"]
        rows.append([name, *cells])
    pairs = f"{setup.pairs} pair{'s' if setup.pairs > 1 else ''} a step"
    what = f"{setup.model}, {setup.pixels} pixels, {pairs}, {'bfloat16' if setup.bfloat16 else 'float32'}"
    clock = "seconds" if setup.device != "cpu" else "seconds of processor time"
    header = [what + (", gradient checkpointing" if setup.checkpointing else ""), clock, "of DPO's script", "peak GB"]
    said = f"Medians of {len(rounds)} rounds, in brackets the least and the most; {setup.threads} threads.\n\n"
    return markdown(header, rows) + said


def _shapes(text: str) -> tuple[str, ...]:
    names = tuple(part for part in text.split(",") if part)
    if not set(names) <= set(SHAPES):
        raise argparse.ArgumentTypeError(f"{text}; expected some of {', '.join(SHAPES)}")
    return names


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="palate study train-cost", description=__doc__)
    parser.add_argument("--shapes", type=_shapes, default=tuple(SHAPES), metavar="sd15,sdxl")
    parser.add_argument("--rank", type=positive, default=8)
    parser.add_argument(
        "--timed",
        type=lambda text: text.split(","),
        default=["playground"],
        metavar="playground,sd15,sdxl",
        help="what steps are timed on: shapes with random weights, or models as `palate generate` takes them",
    )
    parser.add_argument(
        "--pixels", type=positive, default=None, help="side of the pictures; by default 128, or the shape's"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bfloat16", action="store_true", help="what isn't trained in 16 bits; on a GPU always")
    parser.add_argument("--checkpointing", action="store_true", help="compute again instead of keeping")
    parser.add_argument(
        "--arms", nargs="+", choices=tuple(STEPS), default=tuple(STEPS), metavar="STEP",
        help="kinds of steps to time beside Diffusion-DPO's script's",
    )  # fmt: skip
    parser.add_argument("--pairs", type=positive, default=8, help="of a step that is timed")
    parser.add_argument("--repeats", type=int, default=9, help="rounds of one step of each kind; 0 times none")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(list(argv))
