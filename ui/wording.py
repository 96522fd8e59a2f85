"""`palate prompt`: a prompt with what a person likes said in words, for any program that takes a prompt."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .tastes import taste_of, taste_options

__all__ = ["add_prompt_command", "prompt"]


def add_prompt_command(commands: Any, store_option: Callable[[argparse.ArgumentParser], None]) -> None:
    """Add the command to the parser of the command line."""
    say = commands.add_parser("prompt", help="a prompt with what you like said in words")
    say.add_argument("prompt", metavar="PROMPT")
    say.add_argument("--words", type=int, default=2, metavar="N", help="to add at most, 0 to 8 (default: 2)")
    say.add_argument("--avoid", type=int, default=0, metavar="N", help="for the negative prompt at most (default: 0)")
    taste_options(say, store_option)


def prompt(arguments: argparse.Namespace, store: Path) -> int:
    """Print the prompt, and below it the negative prompt where one was asked for.

    Raises:
        EncoderMismatchError: the taste was learned with another encoder, or this one has no text side.
        NotEnoughAnswersError, FileFormatError: there is no such taste.
        ShapeError: more words than fit a prompt.
    """
    encoder, taste = taste_of(arguments, store)
    from ..adapters.playground import words_known_by
    from ..adapters.taste import prompt_in_words

    words = words_known_by(encoder.name)
    found = prompt_in_words(arguments.prompt, taste, encoder, words, arguments.words, arguments.avoid)
    if arguments.json:
        said = {"prompt": found.prompt, "negative": found.negative, "person": taste.person}
        for name, effects in (("added", found.added), ("avoided", found.avoided)):
            said[name] = [{"word": one.word.text, "gain": round(one.effect, 6)} for one in effects]
        print(json.dumps(said, ensure_ascii=False))
        return 0
    print(found.prompt)
    if arguments.words and not found.added:  # on the error stream: a script reads the prompt
        why = "none that fits the prompt is likely yet. More answers tell more."
        print(f"palate: No word was added: {why}", file=sys.stderr)
    if arguments.avoid:
        print(f"Negative prompt: {found.negative}")
    return 0
