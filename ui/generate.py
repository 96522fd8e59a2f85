"""`palate generate`: pictures by prompt and seed, plain, along tastes or for users of a PPD."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..adapters.errors import PPDError, PreferenceError
from ..adapters.places import typed_path
from .export import progress_line, silence
from .made import Made
from .png_settings import png_with_text
from .tastes import weighted
from .users import ppd_named

if TYPE_CHECKING:
    from ..adapters.ppd.model import PPD
    from ..adapters.ppd.user import User
    from ..adapters.steering import Generator
    from ..adapters.taste import Taste

__all__ = ["add_generate_command", "generate"]


class GenerateError(PreferenceError, ValueError):
    """A command that can't be run as it was given."""


def add_generate_command(commands: Any) -> None:
    """Add the command to the parser of the command line."""
    make = commands.add_parser("generate", help="pictures for a prompt, also along your taste or for a user of a PPD")
    make.add_argument("prompt", metavar="PROMPT")
    make.add_argument("--negative", default="", metavar="TEXT", help="what not to paint")
    make.add_argument("--model", default="playground", metavar="FOLDER|FILE", help="as in `palate panel`")
    make.add_argument("--taste", action="append", metavar="FILE[:WEIGHT]", help="along a taste; several add up")
    make.add_argument("--strength", type=float, default=1.0, help="of the tastes, 0 to 2 (default: 1)")
    make.add_argument(
        "--words", type=int, default=0, metavar="N", help="add up to N words that the tastes like (default: 0)"
    )
    make.add_argument("--user", action="append", metavar="FILE[:WEIGHT]", help="for a user of a PPD; several add up")
    make.add_argument("--ppd", default=None, metavar="FILE", help="default: the one of PALATE_HOME that fits the user")
    make.add_argument("--user-strength", type=float, default=1.0, metavar="S", help="-5 to 5 (default: 1)")
    make.add_argument("--user-start", type=float, default=0.0, metavar="P", help="of the schedule (default: 0)")
    make.add_argument("--user-end", type=float, default=1.0, metavar="P", help="of the schedule (default: 1)")
    make.add_argument("--seed", type=int, default=0, help="of the first picture (default: 0)")
    make.add_argument("--count", type=int, default=1, metavar="N", help="pictures, of one seed after the other")
    make.add_argument("--steps", type=int, default=None, help="of denoising (default: the model's)")
    make.add_argument("--guidance", type=float, default=None, help="guidance scale (default: the model's)")
    make.add_argument("--size", type=_size, default=None, metavar="WxH", help="in pixels (default: the model's)")
    make.add_argument("--device", default=None, help="cpu, cuda, mps (default: the best there is)")
    make.add_argument("--offload", choices=("auto", "none", "model", "sequential"), default="auto")
    make.add_argument("--encoder", action="append", metavar="SPEC", help="the model's CLIP; for SDXL up to two")
    make.add_argument("--private", action="store_true", help="don't write into the pictures whose taste or user it was")
    make.add_argument("--json", action="store_true", help="print one JSON object")
    make.add_argument("-o", "--output", default=None, metavar="FILE|FOLDER", help="default: palate-SEED.png, here")


def generate(arguments: argparse.Namespace) -> int:
    """Make the pictures and save each as soon as it is there.

    Raises:
        PPDError, FileFormatError, EncoderMismatchError: user, PPD, taste and model don't belong together.
        SteeringError: no such model, or settings that make no picture.
        StoreError: a picture can't be written.
    """
    if arguments.count < 1:
        raise GenerateError(f"Cannot generate {arguments.count} pictures; expected --count of 1 or more.")
    # What can be refused at once is refused before a model is loaded.
    tastes, users = _tastes(arguments.taste or []), _user(arguments.user or [])
    ppd = None if users[0] is None else _ppd(arguments, users[0])
    from ..adapters.files.container import write_bytes_atomically
    from ..adapters.steering import Generator
    from .panel.loaded import best_device

    silence()
    generator = Generator(arguments.model, arguments.device or best_device(), arguments.encoder, arguments.offload)
    generator.use_ppd(ppd)
    prompt = _with_words(arguments, generator, tastes[0])
    files = []
    for number in range(arguments.count):
        made = _made(arguments, prompt, generator, number, tastes[1], users[1])
        image = generator.images(
            made.prompt,
            [made.seed],
            tastes[0] or None,
            made.strength,
            made.negative,
            made.steps,
            made.guidance,
            (made.width, made.height),
            on_step=_progress(number, arguments.count),
            user=users[0],
            user_strength=made.user_strength,
            user_start=made.user_start,
            user_end=made.user_end,
        )[0]
        told = made.without_names() if arguments.private else made
        png = png_with_text(image, told.parameters, json.dumps(asdict(told), ensure_ascii=False, sort_keys=True))
        files.append(write_bytes_atomically(_file(arguments, made.seed), png))
        if not arguments.json:
            print(files[-1])
    if arguments.json:
        print(json.dumps({"files": [str(file) for file in files], "made": asdict(made)}, ensure_ascii=False))
    return 0


def _tastes(words: list[str]) -> tuple[list[Taste], tuple[tuple[str, float], ...]]:
    """One taste of each encoder, and what it is the sum of."""
    from ..adapters.files import load_taste
    from ..adapters.taste import blend_tastes

    parts = [weighted(word) for word in words]
    by_encoder: dict[str, list[tuple[Taste, float]]] = {}
    for file, weight in parts:
        taste = load_taste(file)
        by_encoder.setdefault(taste.encoder, []).append((taste, weight))
    sums = []
    for alike in by_encoder.values():
        tastes, weights = zip(*alike, strict=True)
        sums.append(tastes[0] if weights == (1.0,) else blend_tastes(tastes, weights))
    return sums, _named(parts)


def _user(words: list[str]) -> tuple[User | None, tuple[tuple[str, float], ...]]:
    """The users' sum, None for nobody, and what it is the sum of."""
    from ..adapters.files import load_user
    from ..adapters.ppd.user import blend_users

    parts = [weighted(word) for word in words]
    users = [load_user(file) for file, _ in parts]
    return (blend_users(users, [weight for _, weight in parts]) if users else None), _named(parts)


def _ppd(arguments: argparse.Namespace, user: User) -> PPD:
    """The PPD that was named, else the one that made the user: the playground's, or one in PALATE_HOME."""
    from ..adapters.errors import FileFormatError
    from ..adapters.files import describe_ppd, load_ppd
    from ..adapters.places import ppd_folder
    from ..adapters.playground import playground_folder
    from ..adapters.ppd.user import require_use

    require_use(arguments.user_strength, arguments.user_start, arguments.user_end)
    if arguments.ppd:
        ppd = ppd_named(arguments.ppd)
        ppd.takes(user)
        return ppd
    for file in [playground_folder() / "ppd.safetensors", *sorted(ppd_folder().glob("*.safetensors"))]:
        try:
            if describe_ppd(file).identity == user.ppd:
                return load_ppd(file)
        except FileFormatError:  # something else that lies there
            continue
    raise PPDError(
        f"Cannot generate for {user.person or 'this user'!r}: found no PPD {user.ppd[:12]} ({user.base or '?'}) in "
        f"{ppd_folder()}; expected the one that the user was made with. Name its file with --ppd."
    )


def _with_words(arguments: argparse.Namespace, generator: Generator, tastes: list[Taste]) -> str:
    """The prompt with the words that were asked for, of each taste as many."""
    prompt: str = arguments.prompt
    if not arguments.words:
        return prompt
    from ..adapters.playground import words_known_by
    from ..adapters.taste import prompt_in_words

    by_identity = {encoder.identity: encoder for encoder in generator.encoders.values()}
    if not tastes or any(taste.encoder not in by_identity for taste in tastes):
        found = "the encoder of this taste isn't loaded" if tastes else "no --taste"
        raise GenerateError(
            f"Cannot add --words {arguments.words}: {found}; expected a taste and the encoder that it was learned "
            "with. Name them with --taste and --encoder."
        )
    for taste in tastes:
        encoder = by_identity[taste.encoder]
        prompt = prompt_in_words(prompt, taste, encoder, words_known_by(encoder.name), arguments.words).prompt
    return prompt


def _made(
    arguments: argparse.Namespace,
    prompt: str,
    generator: Generator,
    number: int,
    tastes: tuple[tuple[str, float], ...],
    users: tuple[tuple[str, float], ...],
) -> Made:
    own = generator.defaults
    width, height = arguments.size or (own.size, own.size)
    return Made(
        prompt,
        arguments.negative,
        arguments.seed + number,
        own.steps if arguments.steps is None else arguments.steps,
        own.guidance if arguments.guidance is None else arguments.guidance,
        width,
        height,
        generator.name,
        tastes,
        arguments.strength if tastes else 0.0,
        users,
        arguments.user_strength if users else 0.0,
        arguments.user_start,
        arguments.user_end,
        generator.ppd.identity if generator.ppd is not None else "",
    )


def _file(arguments: argparse.Namespace, seed: int) -> Path:
    """Where a picture goes: the file that was named, else a name that is free."""
    given = typed_path(arguments.output or ".")
    if given.is_dir() or str(arguments.output).endswith(("/", "\\")):
        name, number = given / f"palate-{seed}.png", 2
        while name.exists():
            name, number = given / f"palate-{seed}-{number}.png", number + 1
        return name
    given = given if given.suffix.lower() == ".png" else given.with_name(given.name + ".png")
    return given if arguments.count == 1 else given.with_name(f"{given.stem}-{seed}.png")


def _progress(number: int, count: int) -> Callable[[int, int], None] | None:
    return progress_line("Painting" if count == 1 else f"Picture {number + 1} of {count}:", sys.stderr)


def _named(parts: list[tuple[str, float]]) -> tuple[tuple[str, float], ...]:
    return tuple((Path(file).stem, weight) for file, weight in parts)


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and (height.isdigit() or not height)):
        raise argparse.ArgumentTypeError(f"{text!r} is no size; expected 512 or 768x512")
    return int(width), int(height or width)
