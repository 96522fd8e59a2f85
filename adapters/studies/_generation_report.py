"""The tables of `bt-generation`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

import numpy as np

from ._tables import Array, bootstrap_interval, markdown, provenance
from ._votes import Outcome, prompt_kept, vote_shares, wins

__all__ = ["report"]

_LEGEND = (
    "Vote: an arm's share beside original and positive only, with answer noise. Wins: how often it is preferred to the "
    "original, without and with answer noise. Gain: mean utility over the original's, in units of the person's own "
    "standard deviation over plain pictures. Kept: prompts of which everything named is right, relative to the "
    "original's over several seeds. Diversity: mean distance of measured features between seeds of one prompt."
)


def report(
    argv: Sequence[str],
    options: argparse.Namespace,
    found: Mapping[str, Outcome],
    spread: Array,
    rivals: tuple[str, str],
    turns: Mapping[str, float],
    tuned_on: int,
    paint: float,
    spent: float,
) -> str:
    """All tables as Markdown.

    Args:
        argv: As typed.
        options: As read.
        found: Outcomes by arm, "original" first.
        spread: (P,) standard deviation of each person's utility over plain pictures, in noise units.
        rivals: Names of the arms that stand beside the original in the vote: positive only and Bradley-Terry.
        turns: Tuned degrees by arm.
        tuned_on: People.
        paint: Seconds a picture.
        spent: Seconds in all.
    """
    people, each = found["original"].utility.shape
    judge = (
        "true utility, measured from the pixels" if options.data is None else "a taste of each person's other answers"
    )
    what = f"{people} {'simulated' if options.data is None else 'real'} people, {people * each} pictures an arm"
    return "\n".join(
        [
            f"{what}, {options.answers} answers each; judged by {judge}; model {options.model}; turned as far as was "
            f"best for {tuned_on} others under at least 95 % of the prompt kept.\n",
            "Three-way vote in % (the paper's people: 26.7, 27.3, 46.0), 95 % bootstrap interval over people:\n",
            _votes(found, rivals, options.seed),
            "Every arm against the original:\n",
            _arms(found, spread, rivals[0], turns, options.seed, paint),
            _LEGEND,
            f"Seconds: a prompt with its pictures; painting one takes {paint:.2f}. In all {spent / 60:.0f} minutes.\n",
            provenance("bt-generation", argv, options.seed),
        ]
    )


def _votes(found: Mapping[str, Outcome], rivals: tuple[str, str], seed: int) -> str:
    arms = ["original", *(name for name in rivals if name in found)]
    utility = np.stack([found[name].utility for name in arms])
    rows = []
    for label, noisy in (("with the answer noise of each person", True), ("without noise", False)):
        shares = vote_shares(utility, noisy)
        rows.append([label, *(_percent(share, seed) for share in shares)])
    return markdown(["votes go to the highest utility", *arms], rows)


def _arms(
    found: Mapping[str, Outcome], spread: Array, positive: str, turns: Mapping[str, float], seed: int, paint: float
) -> str:
    rows = []
    for name, arm in found.items():
        original = found["original"].alike(arm)
        gain = ((arm.utility - original.utility) / spread[:, None]).mean(axis=1)
        low, high = bootstrap_interval(gain, seed)
        vote = "–"
        if name not in ("original", positive) and positive in found:
            three = np.stack([original.utility, found[positive].alike(arm).utility, arm.utility])
            vote = f"{100 * vote_shares(three, True)[2].mean():.1f}"
        rows.append(
            [
                name,
                vote,
                _percent(wins(arm.utility, original.utility), seed),
                f"{100 * wins(arm.utility, original.utility, noisy=True).mean():.1f}",
                f"{gain.mean():+.2f} ({low:+.2f} to {high:+.2f})",
                f"{100 * prompt_kept(arm, original):.1f}",
                "–" if np.isnan(arm.diversity) else f"{arm.diversity:.2f}",
                f"{turns[name]:g}° ({arm.degrees:.0f}°)" if name in turns else "–",
                f"{arm.seconds + arm.pictures * paint:.2f}",
            ]
        )
    header = ["arm", "vote, %", "wins, %", "with noise", "gain, SD", "kept, %", "diversity", "turn (found)", "seconds"]
    return markdown(header, rows)


def _percent(per_person: Array, seed: int) -> str:
    low, high = bootstrap_interval(per_person, seed)
    return f"{100 * per_person.mean():.1f} ({100 * low:.1f} to {100 * high:.1f})"
