"""`palate user`: a person's answers as a user embedding, a file for `palate generate --user` and the nodes."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..adapters.errors import PPDError

if TYPE_CHECKING:
    from ..adapters.comparisons import PreferenceStore
    from ..adapters.ppd.layers import LayerShape
    from ..adapters.ppd.model import PPD
    from ..adapters.ppd.user import User
    from ..adapters.steering import Generator

__all__ = ["add_user_command", "pictures_with", "ppd_named", "use_fitting_ppd", "user"]


def add_user_command(commands: Any, store_option: Callable[[argparse.ArgumentParser], None]) -> None:
    """Add the command to the parser of the command line."""
    make = commands.add_parser("user", help="a person's answers as a user of a PPD, for `generate --user`")
    make.add_argument("person", nargs="?", default="me", metavar="PERSON", help="whose answers (default: me)")
    make.add_argument("--ppd", default="playground", metavar="FILE", help="default: the playground's")
    make.add_argument("--encoder", default="playground", metavar="SPEC", help="the image encoder that the PPD names")
    make.add_argument("--vlm", default=None, metavar="FOLDER|NAME", help="for a PPD that knows people by profiles")
    make.add_argument("--four-bit", action="store_true", help="hold that model's weights in 4 bits")
    make.add_argument("--profile-length", type=int, default=1024, metavar="N", help="as in training (default: 1024)")
    make.add_argument("--most", type=int, default=16, metavar="N", help="answers to use, the newest (default: 16)")
    make.add_argument("-o", "--output", default=None, metavar="FILE", help="default: in PALATE_HOME/users")
    make.add_argument("--private", action="store_true", help="don't write into the file whose answers they were")
    make.add_argument("--device", default="cpu", help="cpu (the default), cuda, mps")
    make.add_argument("--json", action="store_true", help="print one JSON object")
    store_option(make)


def user(arguments: argparse.Namespace, store: Path) -> int:
    """Make a person's embedding and save it.

    Raises:
        EncoderMismatchError, FileFormatError, NotEnoughAnswersError, PPDError: as `load_ppd`, `encode_user` and
            `user_from_profiles` say.
    """
    from ..adapters.comparisons import PreferenceStore

    with PreferenceStore.existing(store) as answers:  # before PyTorch is loaded, for seconds: there may be none
        from ..adapters.encoders import load_encoder
        from ..adapters.files import describe_user, save_user
        from ..adapters.places import safe_name, users_folder
        from ..adapters.ppd.model import encode_user
        from .tastes import file_to_save

        output = file_to_save(arguments.output) if arguments.output else users_folder() / safe_name(arguments.person)
        ppd = ppd_named(arguments.ppd)
        kind = getattr(ppd.encoder, "kind", "")
        if arguments.vlm or (kind == "vlm" and arguments.four_bit):
            made = _described(answers, ppd, arguments)
        else:
            by_sight = kind not in ("vlm", "learned")
            encoder = load_encoder(arguments.encoder, arguments.device) if by_sight else None
            made = encode_user(answers, encoder, arguments.person, ppd, arguments.most)
    file = save_user(replace(made, person="") if arguments.private else made, output)
    if arguments.json:
        print(json.dumps({"file": str(file)} | vars(describe_user(file)), ensure_ascii=False))
        return 0
    print(f"Saved {file}")
    of = f"Made from {made.pairs} answer{'s' if made.pairs > 1 else ''}" if kind != "learned" else "Known by name"
    weights = "" if arguments.ppd == "playground" else f" --ppd {arguments.ppd}"
    next_step = pictures_with(ppd.attention.layers, f"{weights} --user {file}")
    print(f"{of}, for {made.base} models. {next_step}", file=sys.stderr)
    return 0


def pictures_with(layers: Sequence[LayerShape], options: str) -> str:
    """Say how to get pictures for a user: by `palate generate` with these options, or by who else draws.

    Args:
        layers: Where users enter the denoiser.
        options: Of the command, each after a space.
    """
    if any(layer.name.endswith(".attn2") for layer in layers):
        return f"Pictures: palate generate PROMPT{options}"
    # Stable Cascade, SD3 and Flux, which Palate itself doesn't draw with.
    return "Pictures: Load PPD and Apply User in ComfyUI, or use_in of palate.adapters.ppd."


def _described(answers: PreferenceStore, ppd: PPD, arguments: argparse.Namespace) -> User:
    from ..adapters.ppd.profiled import user_from_profiles
    from ..adapters.ppd.profiles import MODEL, load_vlm

    if getattr(ppd.encoder, "kind", "") != "vlm":
        raise PPDError(
            f"Cannot describe {arguments.person!r} with --vlm: {ppd.name or 'this PPD'} ({ppd.base}) doesn't know "
            "people by profiles; expected one of --user-encoder vlm. Leave out --vlm."
        )
    model = load_vlm(arguments.vlm or MODEL, arguments.device, arguments.four_bit)
    return user_from_profiles(answers, model, arguments.person, ppd, arguments.most, arguments.profile_length)


def ppd_named(spec: str | Path) -> PPD:
    """Load a PPD by what a person writes: "playground" or a file.

    Raises:
        FileFormatError, PPDError: as `load_ppd`.
    """
    from ..adapters.files import load_ppd
    from ..adapters.playground import playground_folder

    return load_ppd(playground_folder() / "ppd.safetensors" if spec == "playground" else spec)


def use_fitting_ppd(generator: Generator, model: str) -> PPD | None:
    """Have a generator take the first PPD that fits its model: the playground's own, or the newest of PALATE_HOME."""
    from ..adapters.errors import PreferenceError
    from ..adapters.files import load_ppd

    for file in _ppd_files(model):
        with contextlib.suppress(PreferenceError):  # for another model, or broken
            generator.use_ppd(load_ppd(file))
            break
    return generator.ppd


def _ppd_files(model: str) -> list[Path]:
    from ..adapters.places import ppd_folder
    from ..adapters.playground import playground_folder

    if model == "playground":
        return [playground_folder() / "ppd.safetensors"]
    there = [file for file in ppd_folder().glob("*.safetensors") if file.is_file()]  # not a link to a disk that is away
    return sorted(there, key=lambda file: -file.stat().st_mtime)
