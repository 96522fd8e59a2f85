"""Answers that a training leaves out, because a taste of all the others holds them to be mistaken.

Nothing is deleted: they stay where they came from, and are listed beside the checkpoint and in the file that is made.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import FineTuneError, NotEnoughAnswersError
from .doubts import doubts_of, is_doubted
from .pairs import LabelledPair
from .vectors import Vectors

__all__ = ["FEWEST", "Dropped", "without_doubted"]

FEWEST = 6  # answers that must be left
LIST = "doubted.jsonl"  # in a training's folder
NAMED = 200  # in a file's metadata, most doubted first


@dataclass(frozen=True)
class Dropped:
    """What was left out.

    Attributes:
        pairs: Most doubted first. doubts: Of each, how probable it is that it is mistaken, in (0.5, 1].
        of: How many answers there were to train on, these among them.
        unknown: How many of those could not be judged, as no vectors of their pictures are known; they stay.
    """

    pairs: tuple[LabelledPair, ...]
    doubts: tuple[float, ...]
    of: int
    unknown: int = 0

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def said(self) -> str:
        """One plain sentence, or two."""
        if not self.pairs:
            found = f"None of {self.of} answers is doubted: all are trained on."
        else:
            found = f"Left out: {len(self)} of {self.of} answers, which a taste of the others doubts."
        return found + (f" {self.unknown} could not be judged and stay." if self.unknown else "")

    @property
    def about(self) -> dict[str, str]:
        """For a file's metadata: how many and which; pictures by their names without folders."""
        named = [
            [pair.chosen.stem, pair.rejected.stem, round(doubt, 3)]
            for pair, doubt in zip(self.pairs[:NAMED], self.doubts, strict=False)
        ]
        return {"palate.dropped": f"{len(self)} of {self.of}", "palate.dropped_pairs": json.dumps(named)}

    def write(self, folder: Path) -> Path:
        """List all of them, one JSON object a line, and return the file.

        Raises:
            FineTuneError: it can't be written.
        """
        lines = [
            json.dumps(
                {
                    "chosen": str(pair.chosen),
                    "rejected": str(pair.rejected),
                    "prompt": pair.prompt,
                    "doubt": round(doubt, 4),
                },
                ensure_ascii=False,
            )
            for pair, doubt in zip(self.pairs, self.doubts, strict=True)
        ]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / LIST).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        except OSError as error:
            raise FineTuneError(f"Cannot list answers in {folder}: {error}. Make room.") from error
        return folder / LIST


def without_doubted(pairs: Sequence[LabelledPair], vectors: Vectors) -> tuple[list[LabelledPair], Dropped]:
    """Split pairs into those to train on, in their order, and those that a taste of all the others doubts.

    The taste learns from these pairs alone: what is held out to judge by has no say in what is trained on. The pairs
    of one ranking vouch for each other.

    Args:
        pairs: Without the held-out ones.
        vectors: Of their pictures, one for the other; pairs without stay.

    Raises:
        FineTuneError: more than half of the pairs have no vectors.
        NotEnoughAnswersError: fewer than `FEWEST` are left by leaving some out.
    """
    known = [row for row, pair in enumerate(pairs) if pair.chosen in vectors and pair.rejected in vectors]
    if 2 * len(known) < len(pairs):
        raise FineTuneError(
            f"Cannot tell which answers to leave out: found vectors for the pictures of {len(known)} of {len(pairs)} "
            "answers; expected them for most. Name an encoder that makes them (--encoder playground, or such as "
            "open_clip:ViT-L-14/openai), look at what the taste learned once in the panel or with Fit Taste, which "
            "keeps them, or train on all answers (drop_doubted off)."
        )
    doubts = np.zeros(len(pairs))
    if known:
        chosen, rejected = (
            np.stack([vectors[getattr(pairs[row], side)] for row in known]) for side in ("chosen", "rejected")
        )
        doubts[known] = doubts_of(chosen, rejected).double().numpy()
    doubted = is_doubted(doubts)
    kept = [pair for pair, out in zip(pairs, doubted, strict=True) if not out]
    if doubted.any() and len(kept) < FEWEST:
        raise NotEnoughAnswersError(
            f"Cannot train without the doubted answers: {int(doubted.sum())} of {len(pairs)} are doubted, which leaves "
            f"{len(kept)}; expected {FEWEST} or more. Answer more pairs, or train on all of them (drop_doubted off)."
        )
    order = [int(row) for row in np.argsort(-doubts, kind="stable") if doubted[row]]
    out = tuple(pairs[row] for row in order), tuple(float(doubts[row]) for row in order)
    return kept, Dropped(*out, len(pairs), len(pairs) - len(known))
