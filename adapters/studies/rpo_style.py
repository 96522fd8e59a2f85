"""`palate study rpo-style`: three styles by RPO, DPO and SFT, alone and after a stage of SFT.

A pair is one postcard in the style, chosen, and as the world draws it, rejected; RPO contrasts it with those of other
captions in its batch, the nearer in CLIP space the more. Judged by each style's own measure from the pixels, by KID in
CLIP space against drawn pictures of the same prompts, and by how many prompts are kept (arXiv:2406.06382).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

import numpy as np

from ._bench import VIEWS, common_options, opened, parsed
from ._styled import Judged, StyleBench, styles_and_arms
from ._tables import markdown, provenance, with_interval

__all__ = ["row_of", "run"]

_STYLES = ("winter", "dusk", "line drawing")
_ARMS = ("sft", "dpo", "rpo", "sft then dpo", "sft then rpo")


def run(argv: Sequence[str]) -> int:
    """Run the study and print its table; returns the exit status."""
    options = _options(argv)
    started = time.perf_counter()
    workshop, _ = opened(options, VIEWS)
    rows = []
    for name in options.styles:
        bench = StyleBench(workshop, name, options)
        found = dict(map(bench.several, options.losses))
        for arm, several in {"the base": [bench.base], **found, "drawn ones": [bench.drawn]}.items():
            rows.append([name, arm, *row_of(several, options.seed)])
    header = ["style", "trained by", "style, % of the way", "KID", "prompt kept, %"]
    sys.stdout.write(
        f"{options.trainings} trainings of each, {options.captions // options.trainings * VIEWS} pairs, "
        f"{options.steps} steps of {options.batch}, rank {options.rank}; {options.prompts} prompts, {options.sampling} "
        "sampling steps; drawn ones went through the autoencoder; 95 % bootstrap interval over trainings:\n\n"
        + markdown(header, rows)
        + f"{(time.perf_counter() - started) / 60:.0f} minutes. "
        + provenance("rpo-style", argv, options.seed)
    )
    return 0


def row_of(several: Sequence[Judged], seed: int) -> list[str]:
    """Share of the style, KID and prompts kept, with intervals where there are several."""
    parts = ((100.0, "share", "{:.0f}"), (1.0, "kid", "{:.2f}"), (100.0, "kept", "{:.0f}"))
    cells = []
    for scale, part, form in parts:
        values = np.array([scale * getattr(one, part) for one in several])
        cells.append(with_interval(values, seed, form) if len(values) > 1 else form.format(values[0]))
    return cells


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = styles_and_arms(common_options("rpo-style", __doc__), _STYLES, _ARMS)
    return parsed(parser, argv, {"trainings": 1, "steps": 2, "batch": 2})
