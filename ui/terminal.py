"""What commands write on a terminal while they work, and what they keep off it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TextIO

__all__ = ["progress_line", "silence"]


def progress_line(what: str, stream: TextIO) -> Callable[[int, int], None] | None:
    """Show steps on one line of a terminal; in a pipe or a file nothing is written."""
    if not stream.isatty():
        return None

    def show(done: int, steps: int) -> None:
        stream.write(f"\r{what} {done} of {steps}" + ("\n" if done == steps else ""))
        stream.flush()

    return show


def silence() -> None:
    """Keep the libraries' own progress bars off the terminal, and remarks that are for programmers."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.disable_progress_bar()
    diffusers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
