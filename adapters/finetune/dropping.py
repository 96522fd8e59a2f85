"""Answers that a training leaves out, because a taste of all the others is against them.

Nothing is deleted: they stay where they came from, and are listed beside the checkpoint and in the file that is made.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import FineTuneError, NotEnoughAnswersError, PreferenceError
from .checkpoint import was_stopped
from .doubts import doubts_of, is_doubted
from .pairs import LabelledPair
from .several import Several
from .vectors import Vectors

__all__ = ["FEWEST", "Dropped", "decided", "without_doubted"]

FEWEST = 6  # answers that must be left
LIST = "doubted.jsonl"  # in a training's folder
_BEGUN = "begun without.json"  # beside it, for the training that goes on
NAMED = 200  # in a file's metadata, most doubted first


@dataclass(frozen=True)
class Dropped:
    """What was left out.

    Attributes:
        pairs: Most doubted first. doubts: Of each, how probable it is that it is mistaken, in (0.3, 1].
        of: How many answers there were to train on, these among them.
        unknown: How many of those could not be judged, as no vectors of their pictures are known; they stay.
        rows: Where `pairs` stood among those.
    """

    pairs: tuple[LabelledPair, ...]
    doubts: tuple[float, ...]
    of: int
    unknown: int = 0
    rows: tuple[int, ...] = ()

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
        """List all of them, one JSON object a line, and return the file; there is none where nothing is left out.

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
            if lines:
                (folder / LIST).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            else:  # that of an earlier training would be taken for this one's
                (folder / LIST).unlink(missing_ok=True)
        except OSError as error:
            raise FineTuneError(f"Cannot list answers in {folder}: {error}. Make room.") from error
        return folder / LIST


def without_doubted(pairs: Sequence[LabelledPair], vectors: Vectors) -> tuple[list[LabelledPair], Dropped]:
    """Split pairs into those to train on, in their order, and those that a taste of all the others doubts.

    The taste learns from these pairs alone: what is held out to judge by has no say in what is trained on. The pairs
    of one ranking vouch for each other, and yet each is doubted by itself: of 25 rankings of four, 30 % of them at
    random, 14 % of what is then kept is mistaken, and 18 % where each ranking stays or goes as a whole. Only of
    rankings that begin with the worst does that leave fewer (22 %, not 26).

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
    return kept, Dropped(*out, len(pairs), len(pairs) - len(known), tuple(order))


def decided(
    pairs: Sequence[LabelledPair],
    vectors: Callable[[], Vectors],
    asked: bool | None,
    folder: Path,
    about: str,
    among: Several,
) -> Dropped | None:
    """Return what a training leaves out; None: nobody wants it, or nothing can be told and nobody asked for it.

    Of several processes the first one decides for all: computed on machines of different kinds, a doubt at the edge
    could fall to either side, and each would train on pairs of its own.

    Args:
        pairs: That may be left out, the same in all processes.
        vectors: Gives those of their pictures; asked in the first process only.
        asked: True: somebody wants it. None: it is the usual way. False: nothing is left out.
        folder: Of the training; the list of an earlier one there goes.
        about: The model, all answers and what was asked for, to know a stopped training again by.

    Raises:
        Whatever `without_doubted` and `vectors` raise, in all processes. FineTuneError: the folder can't be written.
    """
    found: Dropped | PreferenceError | None = None
    if among.first:
        try:
            found = _as_begun(folder, about, pairs, _doubted(pairs, vectors, asked))
            if found is None:
                Dropped((), (), len(pairs)).write(folder)
        except PreferenceError as error:
            found = error
    found = among.told(found)
    if isinstance(found, PreferenceError):
        raise found
    return found


def _doubted(pairs: Sequence[LabelledPair], vectors: Callable[[], Vectors], asked: bool | None) -> Dropped | None:
    if asked is False:
        return None
    known = vectors()
    try:
        return without_doubted(pairs, known)[1]
    except (FineTuneError, NotEnoughAnswersError):
        if asked:
            raise
        return None


def _as_begun(folder: Path, about: str, pairs: Sequence[LabelledPair], found: Dropped | None) -> Dropped | None:
    """Return what a training that was stopped in this folder was begun without; of any other what was found now.

    While it stood still, vectors of more pictures may have come to be known, as by a look at the taste, so that other
    answers are doubted now. It goes on with those that it began with.

    Args:
        folder: Of the training.
        about: The model, all answers and what was asked for, to know it again by.
        pairs: That may be left out.
        found: Of them now; None: nothing can be told, or nobody wants it.

    Raises:
        FineTuneError: it can't be written, or the checkpoint is damaged.
    """
    file, known = folder / _BEGUN, None
    now = {"about": about, "left": None if found is None else [found.rows, found.doubts, found.unknown]}
    with contextlib.suppress(OSError, ValueError):
        known = json.loads(file.read_text(encoding="utf-8"))
    if known == json.loads(json.dumps(now)):
        return found
    if isinstance(known, dict) and known.get("about") == about and was_stopped(folder):
        if known["left"] is None:
            return None
        rows, doubts, unknown = known["left"]
        return Dropped(tuple(pairs[row] for row in rows), tuple(doubts), len(pairs), unknown, tuple(rows))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(now), encoding="utf-8")
    except OSError as error:
        raise FineTuneError(f"Cannot note what is left out in {folder}: {error}. Make room.") from error
    return found
