"""Values of options that several studies take."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection

__all__ = ["positive", "some_of"]


def positive(text: str) -> int:
    """Return a whole number of 1 or more, for argparse's `type`.

    Raises:
        ArgumentTypeError: it is less.
    """
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value}; expected 1 or more")
    return value


def some_of(possible: Collection[str]) -> Callable[[str], list[str]]:
    """Names with "|" between them, for argparse's `type`; it refuses what is not among the possible ones."""

    def names(text: str) -> list[str]:
        found = [part.strip() for part in text.split("|")]
        if not set(found) <= set(possible):
            raise argparse.ArgumentTypeError(f"{text}; expected some of {'|'.join(possible)}")
        return found

    return names
