"""What a row of a table says, whichever of the known ways of writing it down was used.

    chosen, rejected                            preference data sets; also winner, loser, as image-ranker's CSV has it;
                                                beside them label 0.5 for a tie and much, as our own data sets have it
    image_0, image_1, prefer_0, prefer_1        invoke-training's metadata.jsonl
    jpg_0, jpg_1, label_0, label_1              Pick-a-Pic (arXiv:2305.01569); has_label says whether anybody answered
    image_0, image_1, label                     label: 0 or 1, the preferred one; 0.5 a tie
    left, right, outcome                        ours, with left_seed, right_seed and much
    image_path [k], human_preference or rank    HPDv2 (arXiv:2306.09341): 1 for the preferred one, or ranks, 1 the best
    generations [k], ranking                    ImageReward (arXiv:2304.05977): ranks, 1 the best

Prompts are called prompt or caption, people person or user_id, what made the images model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..comparisons import OUTCOMES
from ..errors import FileFormatError
from .foreign import Foreign, Picture

__all__ = ["answer_of"]

MOST = 16  # images of one ranking
_CHOSEN = (("chosen", "rejected"), ("winner", "loser"))
_PAIRS = (("image_0", "image_1"), ("jpg_0", "jpg_1"), ("left", "right"))
_SETS = (("image_path", "human_preference"), ("image_path", "rank"), ("generations", "ranking"))


def answer_of(row: Mapping[str, Any], picture: Callable[[Any], Picture]) -> Foreign | None:
    """Return the answer of a row, or None where nobody answered yet.

    Args:
        row: Cells by the column's name.
        picture: Turns a cell into a picture.

    Raises:
        FileFormatError: none of the known ways, or cells that make no sense; the text ends the sentence "row x: ...".
    """
    about = _text(row, "prompt", "caption"), _text(row, "person", "user_id"), _text(row, "model")
    for chosen, rejected in _CHOSEN:
        # Our own lines have left, right and outcome beside these two.
        if row.get(chosen) is not None and row.get(rejected) is not None and row.get("outcome") is None:
            if row[chosen] == "None":  # image-ranker's mark of a picture that was sorted out without another
                return None
            said = "tie" if row.get("label") in (0.5, "0.5") else "left"
            return Foreign((picture(row[chosen]), picture(row[rejected])), said, (), *about, much=_much(row, said))
    for left, right in _PAIRS:
        if row.get(left) is not None and row.get(right) is not None:
            outcome = _outcome(row)
            if outcome is None:
                return None
            seeds = _seed(row.get(f"{left}_seed")), _seed(row.get(f"{right}_seed"))
            return Foreign((picture(row[left]), picture(row[right])), outcome, (), *about, seeds, _much(row, outcome))
    for images, ranks in _SETS:
        if isinstance(row.get(images), (list, tuple)) and row.get(ranks) is not None:
            if not 2 <= len(row[images]) <= MOST:  # before anybody looks for a hundred thousand files
                raise FileFormatError(f"it has {len(row[images])} images; expected 2 to {MOST}, and a rank for each")
            return _ranked([picture(cell) for cell in row[images]], row[ranks], ranks == "human_preference", about)
    known = ", ".join(str(name)[:20] for name in list(row)[:8])
    raise FileFormatError(f"its columns are {known or 'none'}; expected chosen and rejected, or another known way")


def _much(row: Mapping[str, Any], outcome: str) -> bool | None:
    return row["much"] if outcome != "tie" and isinstance(row.get("much"), bool) else None


def _seed(cell: Any) -> int | None:
    return cell if isinstance(cell, int) and not isinstance(cell, bool) and 0 <= cell < 2**63 else None


def _outcome(row: Mapping[str, Any]) -> str | None:
    """Of a pair; None where nobody answered."""
    if row.get("outcome") is not None:
        outcome = str(row["outcome"])
        if outcome not in OUTCOMES:
            raise FileFormatError(f"its outcome is {outcome[:20]!a}; expected one of {', '.join(OUTCOMES)}")
        return outcome if outcome in ("left", "right", "tie") else None
    if "prefer_0" in row:
        both = _yes(row["prefer_0"]), _yes(row.get("prefer_1"))
        return {(True, False): "left", (False, True): "right", (True, True): "tie"}.get(both)
    if row.get("has_label") is False or row.get("are_different") is False:
        return None
    if row.get("label_0") is not None and row.get("label_1") is not None:
        difference = _number(row["label_0"]) - _number(row["label_1"])
    elif row.get("label") is not None:
        label = _number(row["label"])
        if not 0 <= label <= 1:
            raise FileFormatError(f"its label is {label:g}; expected 0 or 1, the preferred one, or 0.5 for a tie")
        difference = 1.0 - 2.0 * label
    else:
        return None
    return "left" if difference > 0 else "right" if difference < 0 else "tie"


def _ranked(images: Sequence[Picture], ranks: Any, larger_is_better: bool, about: tuple[str, str, str]) -> Foreign:
    if not isinstance(ranks, (list, tuple)) or len(ranks) != len(images):
        raise FileFormatError(f"it has {len(images)} images; expected a rank for each")
    numbers = [(-1.0 if larger_is_better else 1.0) * _number(rank) for rank in ranks]
    if len(images) == 2:
        outcome = "left" if numbers[0] < numbers[1] else "right" if numbers[1] < numbers[0] else "tie"
        return Foreign(tuple(images), outcome, (), *about)
    tiers = tuple(
        tuple(place for place, number in enumerate(numbers) if number == tier) for tier in sorted(set(numbers))
    )
    return Foreign(tuple(images), "ranked", tiers, *about)


def _number(cell: Any) -> float:
    try:
        number = float(cell)
    except (TypeError, ValueError, OverflowError):  # the last: a whole number of hundreds of digits
        number = math.nan
    if not math.isfinite(number):
        raise FileFormatError(f"a label is {str(cell)[:20]!a}; expected a number")
    return number


def _yes(cell: Any) -> bool:
    """A truth, also as a table of text has it."""
    return bool(cell) and str(cell).strip().lower() not in ("false", "no", "0", "0.0")


def _text(row: Mapping[str, Any], *names: str) -> str:
    for name in names:
        if row.get(name) is not None:
            return str(row[name])
    return ""
