"""`palate next`: which prompts or seeds to make pictures of next, so that comparing them teaches most."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..adapters.places import typed_path
from .tastes import TasteCommandError, taste_of, taste_options
from .terminal import progress_line

if TYPE_CHECKING:
    from ..adapters.encoders import ImageTextEncoder

__all__ = ["add_next_command", "next_prompts"]

Options = dict[Any, Any]  # a prompt or a seed, and its vectors: of its pictures (n, D), or of its text (D,)


def add_next_command(commands: Any, store_option: Callable[[argparse.ArgumentParser], None]) -> None:
    """Add the command to the parser of the command line."""
    say = commands.add_parser("next", help="which prompts or seeds to make pictures of next, to learn most from them")
    say.add_argument(
        "--prompts", default=None, metavar="FILE", help="choose among these, one a line (default: those of the store)"
    )
    say.add_argument(
        "--count", type=int, default=10, metavar="N", help="how many to name, the best first (default: 10)"
    )
    say.add_argument(
        "--seeds", default=None, metavar="PROMPT", help="name seeds of this prompt, each judged by a quick picture"
    )
    say.add_argument("--among", type=int, default=32, metavar="N", help="with --seeds: among the first N (default: 32)")
    say.add_argument(
        "--steps", type=int, default=None, help="with --seeds: of denoising (default: a third of the model's)"
    )
    say.add_argument("--model", default="playground", metavar="FOLDER|FILE", help="with --seeds, as in `palate panel`")
    taste_options(say, store_option)


def next_prompts(arguments: argparse.Namespace, store: Path) -> int:
    """Print prompts or seeds, what teaches most first; each is judged by what those before it leave to learn.

    Prompts of the store are judged by the pictures that were compared, prompts of a file by their text, seeds by
    pictures of few steps.

    Raises:
        TasteCommandError: nothing to choose among, or fewer than one to name.
        SteeringError: seeds, and no such model.
        EncoderError: prompts of a file, and this encoder has no text side.
        EncoderMismatchError, NotEnoughAnswersError, FileFormatError, StoreError: as for the taste.
    """
    if arguments.count < 1:
        raise TasteCommandError(f"Cannot name {arguments.count} prompts; expected --count of 1 or more.")
    if arguments.seeds is not None and (arguments.prompts is not None or arguments.among < 2):
        raise TasteCommandError(
            "Cannot name seeds: found --prompts, too, or --among below 2; expected one prompt and seeds to choose from."
        )
    if arguments.seeds is not None and not arguments.seeds.strip():
        raise TasteCommandError("Cannot name seeds: the prompt is empty; expected at least one word. Say what to show.")
    texts = None if arguments.prompts is None else _lines(arguments.prompts)
    encoder, taste = taste_of(arguments, store)
    from ..adapters.taste import worth_asking

    if arguments.seeds is not None:
        options = _quick_pictures(arguments, encoder)
    elif texts is None:
        options = _compared(store, arguments.person, encoder)
    else:
        options = dict(zip(texts, encoder.encode_texts(texts), strict=True))
    names = list(options)
    found = [names[place] for place in worth_asking(taste, list(options.values()), arguments.count)]
    if arguments.json:
        what = "prompts" if arguments.seeds is None else "seeds"
        print(json.dumps({"person": taste.person, what: found}, ensure_ascii=False))
    else:
        print("\n".join(map(str, found)))
    return 0


def _quick_pictures(arguments: argparse.Namespace, encoder: ImageTextEncoder) -> Options:
    """Seeds, and what the encoder sees in a picture of each."""
    from ..adapters.steering import Generator
    from .devices import best_device

    generator = Generator(arguments.model, arguments.device or best_device())
    # By then a seed's picture is what it will be: on the playground its distances to the others go with the final ones
    # at a correlation of 0.90 (of 2 steps 0.43, of a fifth of the steps 0.76).
    steps = -(-generator.defaults.steps // 3) if arguments.steps is None else arguments.steps
    seeds = list(range(arguments.among))
    tell = progress_line("Quick pictures:", sys.stderr)
    pictures = generator.images(arguments.seeds, seeds, steps=steps, on_step=tell)
    return dict(zip(seeds, encoder.encode_images(pictures), strict=True))


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
