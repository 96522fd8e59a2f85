"""`palate fit` and `palate blend`: tastes as files, without a browser."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..adapters.errors import PreferenceError
from ..adapters.places import typed_path

if TYPE_CHECKING:
    from ..adapters.encoders import ImageTextEncoder
    from ..adapters.taste import Taste

__all__ = [
    "TasteCommandError",
    "add_blend_command",
    "add_fit_command",
    "blend",
    "card_of",
    "encoder_of",
    "file_to_save",
    "fit",
    "taste_of",
    "taste_options",
    "weighted",
]

ENDING = ".safetensors"


class TasteCommandError(PreferenceError, ValueError):
    """A command on tastes that can't be run as it was given."""


def add_fit_command(commands: Any, store_option: Callable[[argparse.ArgumentParser], None]) -> None:
    """Add `palate fit` to the parser of the command line."""
    fit = commands.add_parser("fit", help="learn a person's taste and save it as a file")
    fit.add_argument("person", nargs="?", default="me", metavar="PERSON", help="whose (default: me)")
    fit.add_argument("-o", "--output", default=None, metavar="FILE", help="default: in PALATE_HOME/tastes")
    fit.add_argument("--picture", default=None, metavar="FILE", help="and as a PNG that shows it and carries the file")
    fit.add_argument("--half-life", type=float, default=None, metavar="DAYS", help="after which an answer counts half")
    _options(fit)
    store_option(fit)


def add_blend_command(commands: Any) -> None:
    """Add `palate blend` to the parser of the command line."""
    blend = commands.add_parser("blend", help="add tastes up, subtract or scale them")
    blend.add_argument(
        "tastes", nargs="+", metavar="FILE[:WEIGHT]", help="such as ann.safetensors ben.safetensors:-0.5"
    )
    blend.add_argument("-o", "--output", required=True, metavar="FILE", help="of the taste")
    blend.add_argument(
        "--picture", default=None, metavar="FILE", help="and as a PNG that shows it and carries the file"
    )
    _said(blend)


def taste_options(command: argparse.ArgumentParser, store_option: Callable[[argparse.ArgumentParser], None]) -> None:
    """Add what every command takes that uses a taste: which one, by what encoder, and how to tell what was found."""
    command.add_argument("--taste", default=None, metavar="FILE", help="by this taste (default: the person's answers)")
    command.add_argument("--person", default="me", metavar="NAME", help="by whose (default: me)")
    command.add_argument("--encoder", default=None, metavar="SPEC", help="the taste's (default: the playground's)")
    command.add_argument("--device", default="cpu", help="cpu (the default), cuda, mps")
    command.add_argument("--json", action="store_true", help="print one JSON object")
    store_option(command)


def _options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--encoder", default=None, metavar="SPEC", help="what it is learned with, as in `palate panel`"
    )
    command.add_argument("--device", default="cpu", help="cpu (the default), cuda, mps")
    command.add_argument("--base", default="", metavar="NAME", help="family of the image model: sd15, sdxl, ...")
    _said(command)


def _said(command: argparse.ArgumentParser) -> None:
    command.add_argument("--author", default="", metavar="TEXT", help="written into the file")
    command.add_argument("--licence", default="", metavar="TEXT", help="written into the file, such as CC0-1.0")
    command.add_argument("--private", action="store_true", help="don't write into the file whose taste it is")
    command.add_argument("--json", action="store_true", help="print one JSON object")


def fit(arguments: argparse.Namespace, store: Path) -> int:
    """Learn a person's taste and save it.

    Raises:
        NotEnoughAnswersError, StoreError, EncoderError: as `fit_taste`, the store and `load_encoder` say.
    """
    from ..adapters.comparisons import PreferenceStore
    from ..adapters.places import safe_name, tastes_folder
    from .terminal import progress_line

    with PreferenceStore.existing(store) as answers:  # before PyTorch is loaded, for seconds: there may be none
        from ..adapters.encoders import encode_readable
        from ..adapters.taste import measured_taste

        default = tastes_folder() / f"{safe_name(arguments.person)}{ENDING}"
        path = file_to_save(arguments.output) if arguments.output else default
        encoder = encoder_of(arguments)
        images = [side for one in answers.comparisons(arguments.person) for side in (one.left, one.right)]
        encode_readable(answers, encoder, images, on_batch=progress_line("Looking at pictures", sys.stderr))
        taste = measured_taste(answers, encoder, arguments.person, arguments.base, arguments.half_life)
    return _save(taste, path, arguments)


def blend(arguments: argparse.Namespace) -> int:
    """Add tastes up and save the sum.

    Raises:
        EncoderMismatchError, FileFormatError, ShapeError: as `load_taste` and `blend_tastes` say.
    """
    from ..adapters.files import load_taste
    from ..adapters.taste import blend_tastes

    files, weights = zip(*(weighted(word) for word in arguments.tastes), strict=True)
    return _save(blend_tastes([load_taste(file) for file in files], weights), file_to_save(arguments.output), arguments)


def card_of(file: str | Path) -> dict[str, Any]:
    """Return what a taste file says of itself, as `palate show FILE --json` prints it.

    Raises:
        FileFormatError: it is no taste.
    """
    from ..adapters.files import describe

    said = describe(file)
    accuracy = said.accuracy and {key: round(value, 4) for key, value in vars(said.accuracy).items()}
    return {**{key: value for key, value in vars(said).items() if key != "accuracy"}, "accuracy": accuracy}


def weighted(word: str) -> tuple[str, float]:
    """Return file and weight of `FILE` or `FILE:WEIGHT`; a file whose name has a colon is still a file.

    Raises:
        TasteCommandError: what follows the last colon is no number, and there is no such file either.
    """
    file, colon, number = word.rpartition(":")
    if not colon or Path(word).is_file():
        return word, 1.0
    try:
        return file, float(number)
    except ValueError:
        raise TasteCommandError(
            f"Cannot use {word!r}: no such file, and its weight is {number!r}; expected FILE or FILE:NUMBER."
        ) from None


def file_to_save(typed: str) -> Path:
    """Return the path that was typed for a file, with the ending of safetensors.

    Raises:
        TasteCommandError: it is a folder.
    """
    from ..adapters.files.user_file import safetensors_path

    path = typed_path(typed)
    if path.is_dir() or not path.name:
        raise TasteCommandError(f"Cannot save as {typed!r}: it is a folder; expected a file's name in it.")
    return safetensors_path(path)


def _save(taste: Taste, path: Path, arguments: argparse.Namespace) -> int:
    from ..adapters.files import save_taste, save_taste_picture

    taste = replace(taste, author=arguments.author, licence=arguments.licence)
    if arguments.private:
        taste = replace(taste, person="")
    saved = save_taste(taste, path)
    picture = save_taste_picture(taste, arguments.picture) if arguments.picture else None
    if arguments.json:
        print(json.dumps({"file": str(saved), "picture": picture and str(picture)} | card_of(saved)))
        return 0
    print(f"Saved {saved}" + (f" and {picture}" if picture else ""))
    if taste.accuracy is not None:
        print(f"It foresaw {taste.accuracy}.")
    return 0


def taste_of(arguments: argparse.Namespace, store: Path) -> tuple[ImageTextEncoder, Taste]:
    """Return the encoder, and the taste of the file that was named, else what the person's answers teach.

    Raises:
        EncoderMismatchError: the file was learned with another encoder.
        NotEnoughAnswersError, StoreError, FileFormatError: there is no such taste.
    """
    from ..adapters.comparisons import PreferenceStore

    if arguments.taste:
        from ..adapters.files import load_taste

        encoder = encoder_of(arguments)
        return encoder, load_taste(arguments.taste, encoder)
    with PreferenceStore.existing(store) as answers:  # as in `fit`
        from ..adapters.taste import fit_taste

        encoder = encoder_of(arguments)
        return encoder, fit_taste(answers, encoder, arguments.person)


def encoder_of(arguments: argparse.Namespace, named: str = "") -> ImageTextEncoder:
    """Return the encoder of this name, else the one that was asked for, else the playground's."""
    from ..adapters.encoders import load_encoder
    from .terminal import silence

    silence()
    return load_encoder(named or arguments.encoder or "playground", arguments.device)
