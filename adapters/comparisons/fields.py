"""What the fields of a record may hold: checks that answers, rankings and offers share."""

from __future__ import annotations

import math
import operator
import re
from numbers import Real

from ..errors import ComparisonError

__all__ = ["MAX_NAME", "MAX_PROMPT", "RECORD", "check_text", "set_integer", "set_number", "short", "whole_number"]

MAX_NAME = 4_000  # characters of a person's name, of an image id, a model's or a source's name
MAX_PROMPT = 100_000  # characters
RECORD = "record the comparison"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def check_text(
    name: str, text: object, limit: int, *, blank: bool = True, control: bool = False, doing: str = RECORD
) -> None:
    """Require text of at most `limit` characters.

    Args:
        name: What it is, for the message.
        text: The text.
        limit: Characters.
        blank: Whether it may be empty or white space.
        control: Whether it may hold control characters.
        doing: What fails without it, for the message.

    Raises:
        ComparisonError: it isn't such text.
    """
    if not isinstance(text, str):
        raise ComparisonError(f"Cannot {doing}: {name} is {short(text)} ({type(text).__name__}); expected text.")
    found = ""
    if not blank and not text.strip():
        found = "blank"
    elif len(text) > limit:
        found = f"{len(text)} characters long"
    elif _SURROGATE.search(text) or (not control and _CONTROL.search(text)):
        found = f"{short(text)}, with a character that can't be shown"
    if found:
        rule = f"{'up to' if blank else '1 to'} {limit} characters of plain text"
        raise ComparisonError(f"Cannot {doing}: {name} is {found}; expected {rule}. Type it again.")


def set_integer(record: object, name: str) -> None:
    """Make a field of a frozen record a plain whole number of 64 bits, or None.

    Raises:
        ComparisonError: as `whole_number`.
    """
    object.__setattr__(record, name, whole_number(name, getattr(record, name)))


def whole_number(name: str, value: object) -> int | None:
    """Return a plain whole number from -2^63 to 2^64 - 1, or None for None.

    Raises:
        ComparisonError: it is no such number.
    """
    if value is None:
        return None
    try:
        # operator.index also takes numpy's integers and gives back a plain one.
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise ComparisonError(
            f"Cannot record the comparison: {name} is {short(value)}; expected a whole number or None."
        ) from None
    if not -(2**63) <= number < 2**64:
        raise ComparisonError(
            f"Cannot record the comparison: {name} has {number.bit_length()} bits; expected a number of 64 bits."
        )
    return number


def set_number(record: object, name: str, low: float = -math.inf) -> None:
    """Make a field of a frozen record a plain finite number of at least `low`, or None.

    Raises:
        ComparisonError: it is no such number.
    """
    value = getattr(record, name)
    if value is None:
        return
    try:
        number = float(value) if isinstance(value, Real) else math.nan
    except OverflowError:  # a whole number beyond 1e308
        number = math.inf
    if not math.isfinite(number) or number < low:
        limit = f" from {low:g} up" if math.isfinite(low) else ""
        raise ComparisonError(
            f"Cannot record the comparison: {name} is {short(value)}; expected a finite number{limit}, or None."
        )
    object.__setattr__(record, name, number)


def short(value: object) -> str:
    """What a value looks like in a message, in up to 60 characters."""
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
