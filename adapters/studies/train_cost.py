"""`palate study train-cost`: what a step of each loss costs, beside the same step as the papers' scripts take it.

At the shapes of Stable Diffusion 1.5 and XL operations and bytes are counted on models without weights, so no such
model and no GPU is needed; on the playground steps are timed, all in turn in one run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import torch

from ..steering import Generator
from ._options import positive
from ._plain_steps import time_steps
from ._shapes import SHAPES, Passes, count_passes
from ._tables import markdown, provenance

__all__ = ["costs", "run"]

_RIVALS = ("script: MaPO, LoRA", "script: Diffusion-DPO, LoRA")


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
    for the backward pass; nothing is computed again (gradient checkpointing), nothing is offloaded.
    """
    p = passes
    step, full = p.forward + p.backward, p.forward + p.full_backward
    at_work = 2.0 * p.unet + 16.0 * p.lora + p.held
    # All weights: in 32 bits with gradient and averages; a second model in 16 bits is the reference.
    whole = 16.0 * p.unet + p.full_held
    every_step, with_encoders = p.images + p.text, 2.0 * (p.vae + p.texts)
    return {
        "Palate: sft, mapo": (step, at_work),
        "Palate: dpo, cdpo, rdpo, ipo, kto, rpo": (step + p.forward, at_work),
        "Palate: the same with fixed noise": (step, at_work),
        "Palate: adaptive_dpo": (step + 3.0 * p.forward, at_work + 8.0 * p.lora),
        _RIVALS[0]: (step + every_step, at_work + with_encoders),
        _RIVALS[1]: (step + p.forward + every_step, at_work + with_encoders),
        "script: Adaptive-DPO, LoRA": (step + 3.0 * p.forward + every_step, at_work + with_encoders + 8.0 * p.lora),
        "script: MaPO, all weights": (full + every_step, whole + with_encoders),
        "script: Diffusion-DPO, all weights": (full + p.forward + every_step, whole + 2.0 * p.unet + with_encoders),
    }


def _counted(name: str, passes: Passes) -> str:
    found = costs(passes)
    mapo, dpo = (found[rival][0] for rival in _RIVALS)
    rows = [
        [what, f"{work / 1e12:.2f}", f"{100 * work / mapo:.0f} %", f"{100 * work / dpo:.0f} %", f"{size / 1e9:.1f}"]
        for what, (work, size) in found.items()
    ]
    header = [f"{name}, {SHAPES[name].size} pixels", "TFLOP a pair", "of MaPO's script", "of DPO's script", "GB"]
    return markdown(header, rows) + "\n"


def _timed(options: argparse.Namespace) -> str:
    generator = Generator(options.model, options.device)
    found = time_steps(generator, options.pairs, options.rank, options.repeats, options.seed)
    rows = [[name, f"{seconds:.2f}"] for name, seconds in found.items()]
    header = [f"{generator.name}, {options.pairs} pairs a step", "seconds of processor time"]
    return markdown(header, rows) + f"Medians of {options.repeats}, {torch.get_num_threads()} threads.\n\n"


def _shapes(text: str) -> tuple[str, ...]:
    names = tuple(part for part in text.split(",") if part)
    if not set(names) <= set(SHAPES):
        raise argparse.ArgumentTypeError(f"{text}; expected some of {', '.join(SHAPES)}")
    return names


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="palate study train-cost", description=__doc__)
    parser.add_argument("--shapes", type=_shapes, default=tuple(SHAPES), metavar="sd15,sdxl")
    parser.add_argument("--rank", type=positive, default=8)
    parser.add_argument("--model", default="playground", help="what steps are timed on, one with one text encoder")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pairs", type=positive, default=8, help="of a step that is timed")
    parser.add_argument("--repeats", type=int, default=9, help="steps of each kind; 0 times none")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(list(argv))
