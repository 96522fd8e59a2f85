"""Values of options that several studies take."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection

__all__ = ["counts", "percents", "positive", "rates", "share", "some_of"]


def positive(text: str) -> int:
    """Return a whole number of 1 or more, for argparse's `type`.

    Raises:
        ArgumentTypeError: it is less.
    """
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value}; expected 1 or more")
    return value


def counts(text: str) -> list[int]:
    """Return whole numbers of 1 or more with "," between them, ascending, each once; for argparse's `type`."""
    return sorted({positive(part) for part in text.split(",")})


def share(text: str) -> float:
    """Return a number from 0 to 1, for argparse's `type`.

    Raises:
        ArgumentTypeError: it is another.
    """
    value = float(text)
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"{text}; expected a number from 0 to 1")
    return value


def percents(text: str) -> list[float]:
    """Return percentages with "," between them as shares in [0, 1], ascending, each once; for argparse's `type`.

    Raises:
        ArgumentTypeError: one is below 0 or above 100.
    """
    values = sorted({float(part) / 100.0 for part in text.split(",")})
    if not 0.0 <= values[0] <= values[-1] <= 1.0:
        raise argparse.ArgumentTypeError(f"{text}; expected 0 to 100 %")
    return values


def rates(text: str) -> list[float]:
    """Return numbers above 0 with "," between them, ascending, each once, for argparse's `type`.

    Raises:
        ArgumentTypeError: one is 0 or less.
    """
    values = sorted({float(part) for part in text.split(",")})
    if not values[0] > 0.0:
        raise argparse.ArgumentTypeError(f"{text}; expected rates above 0")
    return values


def some_of(possible: Collection[str], between: str = "|") -> Callable[[str], list[str]]:
    """Names with "|", or what else is asked for, between them, for argparse's `type`; others are refused."""

    def names(text: str) -> list[str]:
        found = [part.strip() for part in text.split(between)]
        if not set(found) <= set(possible):
            raise argparse.ArgumentTypeError(f"{text}; expected some of {between.join(possible)}")
        return found

    return names
