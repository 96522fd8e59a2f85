"""`palate study mismatch`: how far from its base can each loss take a model?

Styles at growing distance, measured by the base's own denoising error, are taught by MaPO, DPO and SFT from the same
pairs: does MaPO's lead grow with the mismatch, as its paper says? And a subject that the base never saw, from five
pictures: MaPO, whose rejected pictures are the model's own, beside DreamBooth with a loss that keeps the class.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence

import numpy as np

from ._bench import VIEWS, common_options, opened, parsed
from ._options import positive, some_of
from ._styled import Judged, StyleBench, styles_and_arms
from ._subject import DRAWN, SUBJECT_ARMS, Shown, SubjectBench, subject_rows
from ._tables import markdown, provenance, with_interval
from .rpo_style import row_of

__all__ = ["run"]

_STYLES = ("winter", "dusk", "negative", "line drawing")
_ARMS = ("sft", "dpo", "mapo")
_PARTS = ("styles", "subject")


def run(argv: Sequence[str]) -> int:
    """Run the study and print its tables; returns the exit status."""
    options = _options(argv)
    started = time.perf_counter()
    workshop, _ = opened(options, VIEWS)
    if "styles" in options.parts:
        rows, leads = [], []
        for bench in sorted((StyleBench(workshop, name, options) for name in options.styles), key=lambda b: b.further):
            found = {arm: bench.several(arm) for arm in options.losses}
            named = dict(found.values())
            for arm, several in {"the base": [bench.base], **named, "drawn ones": [bench.drawn]}.items():
                rows.append([bench.name, arm, *row_of(several, options.seed)])
            lead = _leads({arm: several for arm, (_, several) in found.items()}, options.seed)
            leads.append([bench.name, f"{bench.further:.1f}", f"{bench.away:.2f}", *lead])
        sys.stdout.write(_of_styles(options, rows, leads))
        sys.stdout.flush()
    if "subject" in options.parts:
        shown: dict[str, list[Shown]] = {}
        for number in range(options.trainings):
            subject = SubjectBench(workshop, number, options)
            for arm in ("the base", *options.subject_arms, DRAWN):
                shown.setdefault(arm, []).append(subject.taught(arm))
        header = ["trained by", "shows the subject, %", "and its prompt, %", "the class shows it, %", "class kept, %"]
        sys.stdout.write(
            f"\nA subject from 5 pictures and {options.sampled} of the model's own; {options.trainings} subjects:\n\n"
            + markdown(header, subject_rows(shown, options.seed))
        )
    sys.stdout.write(f"{(time.perf_counter() - started) / 60:.0f} minutes. ")
    sys.stdout.write(provenance("mismatch", argv, options.seed))
    return 0


def _of_styles(options: argparse.Namespace, rows: Sequence[Sequence[str]], leads: Sequence[Sequence[str]]) -> str:
    others = [arm for arm in options.losses if arm != "mapo"]
    header = ["style", "trained by", "style, % of the way", "KID", "prompt kept, %"]
    ahead = ["style", "base's error, times its own", "KID of drawn ones"]
    ahead += [f"MaPO's lead over {other}, points" for other in others] if "mapo" in options.losses else []
    return "\n".join(
        [
            f"{options.trainings} trainings of each, {options.captions // options.trainings * VIEWS} pairs, "
            f"{options.steps} steps of {options.batch}, rank {options.rank}; {options.prompts} prompts, "
            f"{options.sampling} sampling steps; 95 % bootstrap interval over trainings:\n",
            markdown(header, rows),
            "How far each style is from the base, and by how much more of the way MaPO goes:\n",
            markdown(ahead, leads),
        ]
    )


def _leads(found: Mapping[str, Sequence[Judged]], seed: int) -> list[str]:
    """MaPO's share of the style minus each other's of the same training."""
    if "mapo" not in found:
        return []
    ours = np.array([one.share for one in found["mapo"]])
    gaps = [ours - np.array([one.share for one in several]) for arm, several in found.items() if arm != "mapo"]
    return [with_interval(100 * gap, seed, "{:+.0f}") for gap in gaps]


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = styles_and_arms(common_options("mismatch", __doc__), _STYLES, _ARMS)
    parser.add_argument("--parts", type=some_of(_PARTS), default=list(_PARTS), metavar="styles|subject")
    parser.add_argument("--subject-arms", type=some_of(SUBJECT_ARMS), default=list(SUBJECT_ARMS), metavar="a|b|c")
    parser.add_argument(
        "--sampled", type=positive, default=20, help="pictures of the model's own beside a subject's five"
    )
    return parsed(parser, argv, {"trainings": 1, "steps": 2, "batch": 2, "sampled": 2})
