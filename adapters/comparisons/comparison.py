"""One recorded choice between two images, and one pair that waits for a choice."""

from __future__ import annotations

import math
import operator
import re
from dataclasses import dataclass
from numbers import Real

from ..errors import ComparisonError

__all__ = ["OUTCOMES", "Comparison", "Offer", "check_outcome", "check_person"]

OUTCOMES = ("left", "right", "tie", "both_bad", "skip")

MAX_NAME = 4_000  # characters of a person's name, of an image id, a model's or a source's name
MAX_PROMPT = 100_000  # characters
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_RECORD = "record the comparison"
_SURROGATE = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True)
class Comparison:
    """One answer to "which do you prefer?", as it was on screen.

    Attributes:
        person: Whose answer; any text of 1 to 4000 characters without control characters.
        left, right: Ids of two different images.
        outcome: One of `OUTCOMES`. "tie" and "both_bad" are answers, "skip" is none.
        prompt: What both images were made from; "" when unknown.
        left_seed, right_seed: Whole numbers; None when unknown.
        model: What made the images. source: Where it was answered ("panel", "comfyui", ...).
        seconds: Time to answer, >= 0; None when not measured.
        id: Given by the store. created: Seconds since 1970 UTC; given by the store when None.

    Raises:
        ComparisonError: a field makes no sense; the message names it.
    """

    person: str
    left: str
    right: str
    outcome: str
    prompt: str = ""
    left_seed: int | None = None
    right_seed: int | None = None
    model: str = ""
    source: str = ""
    seconds: float | None = None
    id: int | None = None
    created: float | None = None

    def __post_init__(self) -> None:
        _check_pair(self)
        check_outcome(self.outcome)
        _set_number(self, "seconds", low=0.0)
        _set_number(self, "created")
        _set_integer(self, "id")

    @property
    def chosen(self) -> str | None:
        """Id of the preferred image; None when neither was."""
        return {"left": self.left, "right": self.right}.get(self.outcome)

    @property
    def rejected(self) -> str | None:
        """Id of the image that was not preferred; None when neither was preferred."""
        return {"left": self.right, "right": self.left}.get(self.outcome)


@dataclass(frozen=True)
class Offer:
    """A pair that was shown to a person; open until it is answered. Fields as in `Comparison`.

    Attributes:
        id: A uuid as text, not guessable: who knows it was shown the pair.
        comparison: Id of the answer; None while the offer is open.
    """

    id: str
    person: str
    left: str
    right: str
    prompt: str = ""
    left_seed: int | None = None
    right_seed: int | None = None
    model: str = ""
    source: str = ""
    created: float | None = None
    comparison: int | None = None

    def __post_init__(self) -> None:
        _check_pair(self)

    @property
    def open(self) -> bool:
        """Whether nobody answered yet."""
        return self.comparison is None


def check_person(person: str, doing: str = "use this name") -> str:
    """Return the name if it can be one.

    Args:
        person: The name.
        doing: What fails without one, for the message.

    Raises:
        ComparisonError: blank, longer than 4000 characters, or with control characters.
    """
    _check_text("person", person, MAX_NAME, blank=False, doing=doing)
    return person


def check_outcome(outcome: str) -> str:
    """Return the outcome if it is one of `OUTCOMES`.

    Raises:
        ComparisonError: it isn't.
    """
    if outcome not in OUTCOMES:
        raise ComparisonError(
            f"Cannot record the comparison: outcome is {_short(outcome)}; expected one of {', '.join(OUTCOMES)}."
        )
    return outcome


def _check_pair(pair: Comparison | Offer) -> None:
    check_person(pair.person, _RECORD)
    _check_text("left", pair.left, MAX_NAME, blank=False)
    _check_text("right", pair.right, MAX_NAME, blank=False)
    _check_text("prompt", pair.prompt, MAX_PROMPT, control=True)
    _check_text("model", pair.model, MAX_NAME)
    _check_text("source", pair.source, MAX_NAME)
    if pair.left == pair.right:
        raise ComparisonError(
            f"Cannot record the comparison: both sides are image {pair.left[:12]}; expected two different images. "
            "Use two seeds, one for each side."
        )
    for name in ("left_seed", "right_seed"):
        _set_integer(pair, name)


def _check_text(
    name: str, text: object, limit: int, *, blank: bool = True, control: bool = False, doing: str = _RECORD
) -> None:
    if not isinstance(text, str):
        raise ComparisonError(f"Cannot {doing}: {name} is {_short(text)} ({type(text).__name__}); expected text.")
    found = ""
    if not blank and not text.strip():
        found = "blank"
    elif len(text) > limit:
        found = f"{len(text)} characters long"
    elif _SURROGATE.search(text) or (not control and _CONTROL.search(text)):
        found = f"{_short(text)}, with a character that can't be shown"
    if found:
        rule = f"{'up to' if blank else '1 to'} {limit} characters of plain text"
        raise ComparisonError(f"Cannot {doing}: {name} is {found}; expected {rule}. Type it again.")


def _set_integer(pair: Comparison | Offer, name: str) -> None:
    value = getattr(pair, name)
    if value is None:
        return
    try:
        # operator.index also takes numpy's integers and gives back a plain one.
        number = operator.index(value)
    except TypeError:
        raise ComparisonError(
            f"Cannot record the comparison: {name} is {_short(value)}; expected a whole number or None."
        ) from None
    if not -(2**63) <= number < 2**64:
        raise ComparisonError(
            f"Cannot record the comparison: {name} has {number.bit_length()} bits; expected a number of 64 bits."
        )
    object.__setattr__(pair, name, number)


def _set_number(comparison: Comparison, name: str, low: float = -math.inf) -> None:
    value = getattr(comparison, name)
    if value is None:
        return
    try:
        number = float(value) if isinstance(value, Real) else math.nan
    except OverflowError:  # a whole number beyond 1e308
        number = math.inf
    if not math.isfinite(number) or number < low:
        limit = f" from {low:g} up" if math.isfinite(low) else ""
        raise ComparisonError(
            f"Cannot record the comparison: {name} is {_short(value)}; expected a finite number{limit}, or None."
        )
    object.__setattr__(comparison, name, number)


def _short(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
