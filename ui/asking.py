"""`palate next`: which prompts to make pictures of next, so that comparing them teaches most about a person."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..adapters.places import typed_path
from .tastes import TasteCommandError, encoder_of, taste_of, taste_options

if TYPE_CHECKING:
    from ..adapters.encoders import ImageTextEncoder

__all__ = ["add_next_command", "next_prompts"]

Options = dict[str, Any]  # a prompt, and its vectors: of its pictures (n, D), or of its text (D,)


def add_next_command(commands: Any, store_option: Callable[[argparse.ArgumentParser], None]) -> None:
    """Add the command to the parser of the command line."""
    say = commands.add_parser("next", help="which prompts to make pictures of next, to learn most from comparing them")
    say.add_argument(
        "--prompts", default=None, metavar="FILE", help="choose among these, one a line (default: those of the store)"
    )
    say.add_argument(
        "--count", type=int, default=10, metavar="N", help="how many to name, the best first (default: 10)"
    )
    taste_options(say, store_option)


def next_prompts(arguments: argparse.Namespace, store: Path) -> int:
    """Print prompts, the one whose pictures teach most first; each is judged by what those before it leave to learn.

    Prompts of the store are judged by the pictures that were compared, prompts of a file by their text.

    Raises:
        TasteCommandError: no prompts to choose among, or fewer than one to name.
        EncoderError: prompts of a file, and this encoder has no text side.
        EncoderMismatchError, NotEnoughAnswersError, FileFormatError, StoreError: as for the taste.
    """
    from ..adapters.taste import worth_asking

    if arguments.count < 1:
        raise TasteCommandError(f"Cannot name {arguments.count} prompts; expected --count of 1 or more.")
    texts = None if arguments.prompts is None else _lines(arguments.prompts)
    encoder = encoder_of(arguments)
    taste = taste_of(arguments, encoder, store)
    if texts is None:
        options = _compared(store, arguments.person, encoder)
    else:
        options = dict(zip(texts, encoder.encode_texts(texts), strict=True))
    prompts = list(options)
    found = [prompts[place] for place in worth_asking(taste, list(options.values()), arguments.count)]
    if arguments.json:
        print(json.dumps({"person": taste.person, "prompts": found}, ensure_ascii=False))
    else:
        print("\n".join(found))
    return 0


def _compared(store: Path, person: str, encoder: ImageTextEncoder) -> Options:
    """Prompts that a person compared pictures of, two or more of each."""
    import torch

    from ..adapters.comparisons import PreferenceStore
    from ..adapters.encoders import encode_readable

    images: dict[str, dict[str, None]] = {}
    with PreferenceStore.existing(store) as answers:
        for one in answers.comparisons(person):
            if one.prompt.strip():
                images.setdefault(one.prompt, {}).update(dict.fromkeys((one.left, one.right)))
        known = encode_readable(answers, encoder, [image for shown in images.values() for image in shown])
    found = {prompt: [known[image] for image in shown if image in known] for prompt, shown in images.items()}
    options = {prompt: torch.stack(vectors) for prompt, vectors in found.items() if len(vectors) > 1}
    if not options:
        raise TasteCommandError(
            f"Cannot say what to make next: found no prompt that {person[:60]!r} compared two pictures of; expected "
            "some. Name a file of prompts with --prompts."
        )
    return options


def _lines(file: str) -> list[str]:
    """The prompts of a file, one a line, each once."""
    try:
        text = typed_path(file).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # no file, or no text
        reason = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise TasteCommandError(f"Cannot read {file!r}: {reason}; expected a text file, one prompt a line.") from error
    lines = list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
    if not lines:
        raise TasteCommandError(f"Cannot use {file!r}: found no prompt in it; expected one prompt a line.")
    return lines
