"""`palate generate`: pictures by prompt and seed, plain, along tastes, for users of a PPD, or for a person."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..adapters.places import typed_path
from .made import Made
from .png_settings import png_with_text
from .terminal import progress_line, silence
from .whose import BEST, USER_STRENGTH, WORDS, GenerateError, Whose, answers_of, best_of, for_person, from_files

if TYPE_CHECKING:
    from PIL import Image

    from ..adapters.encoders import ImageTextEncoder
    from ..adapters.steering import Generator

__all__ = ["add_generate_command", "generate"]


def add_generate_command(commands: Any, store_option: Callable[[argparse.ArgumentParser], None]) -> None:
    """Add the command to the parser of the command line."""
    make = commands.add_parser("generate", help="pictures for a prompt, also along your taste or for a user of a PPD")
    make.add_argument("prompt", metavar="PROMPT")
    make.add_argument("--negative", default="", metavar="TEXT", help="what not to paint")
    make.add_argument("--model", default="playground", metavar="FOLDER|FILE", help="as in `palate panel`")
    make.add_argument(
        "--for",
        dest="person",
        default=None,
        metavar="PERSON",
        help=f"by all they answered: {WORDS} words, a user (at {USER_STRENGTH:g}) where a PPD fits, best of {BEST}",
    )
    make.add_argument("--taste", action="append", metavar="FILE[:WEIGHT]", help="along a taste; several add up")
    make.add_argument("--strength", type=float, default=None, help="of the tastes, 0 to 2 (default: 1)")
    make.add_argument("--words", type=int, default=None, metavar="N", help="add up to N words that the tastes like")
    make.add_argument("--best", type=int, default=None, metavar="N", help="keep of N pictures the one they like best")
    make.add_argument("--user", action="append", metavar="FILE[:WEIGHT]", help="for a user of a PPD; several add up")
    make.add_argument("--ppd", default=None, metavar="FILE", help="default: the one of PALATE_HOME that fits the user")
    make.add_argument("--user-strength", type=float, default=None, metavar="S", help="-5 to 5 (default: 1)")
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
    store_option(make)


def generate(arguments: argparse.Namespace, store: Path) -> int:
    """Make the pictures and save each as soon as it is there.

    Raises:
        PPDError, FileFormatError, EncoderMismatchError: user, PPD, taste and model don't belong together.
        GenerateError, NotEnoughAnswersError: there is nothing to do it by.
        SteeringError: no such model, or settings that make no picture.
        StoreError: a picture can't be written.
    """
    _require(arguments)
    # What can be refused at once is refused before a model is loaded.
    with contextlib.ExitStack() as opened:
        answers = None if arguments.person is None else opened.enter_context(answers_of(arguments.person, store))
        _require_settings(arguments)
        whose = from_files(arguments)
        from ..adapters.files.writing import write_bytes_atomically
        from ..adapters.steering import Generator
        from .devices import best_device

        silence()
        generator = Generator(arguments.model, arguments.device or best_device(), arguments.encoder, arguments.offload)
        generator.use_ppd(whose.ppd)
        if answers is not None:
            whose = for_person(arguments, generator, answers)
    prompt = _with_words(arguments.prompt, generator, whose)
    files = []
    for number in range(arguments.count):
        image, made = _best(arguments, prompt, generator, number, whose)
        told = made.without_names() if arguments.private else made
        png = png_with_text(image, told.parameters, json.dumps(asdict(told), ensure_ascii=False, sort_keys=True))
        files.append(write_bytes_atomically(_file(arguments, made.seed), png))
        if not arguments.json:
            print(files[-1])
    if arguments.json:
        print(json.dumps({"files": [str(file) for file in files], "made": asdict(made)}, ensure_ascii=False))
    return 0


def _require(arguments: argparse.Namespace) -> None:
    for name, value in (("count", arguments.count), ("best", arguments.best)):
        if value is not None and value < 1:
            raise GenerateError(f"Cannot generate with --{name} {value}; expected 1 or more.")
    if not arguments.prompt.strip():
        raise GenerateError("Cannot generate: the prompt is empty; expected at least one word. Say what to paint.")
    if arguments.person is not None and (arguments.taste or arguments.user):
        raise GenerateError(
            f"Cannot generate for {arguments.person!r} and by files at once: --for takes that person's own taste and "
            "user. Leave out --for, or --taste and --user."
        )
    if arguments.person is None and not arguments.taste:
        if (arguments.best or 1) > 1:
            raise _cannot(f"keep the best of {arguments.best}: no taste")
        if arguments.words:
            raise _cannot(f"add --words {arguments.words}: no --taste")
        if arguments.strength:
            raise _cannot(f"steer at --strength {arguments.strength:g}: no --taste")
    if arguments.user_strength and arguments.person is None and not arguments.user:
        raise GenerateError(
            f"Cannot paint at --user-strength {arguments.user_strength:g}: for nobody; expected --user or --for."
        )


def _require_settings(arguments: argparse.Namespace) -> None:
    """Refuse what no model can do; what wasn't said is the model's own, and right."""
    from ..adapters.ppd.user import require_use
    from ..adapters.steering import SteeringSettings
    from ..adapters.steering.sampling import Look

    steps, guidance, strength, user_strength = (
        1.0 if value is None else value
        for value in (arguments.steps, arguments.guidance, arguments.strength, arguments.user_strength)
    )
    last = arguments.seed + arguments.count * best_of(arguments) - 1
    Look(int(steps), guidance, *(arguments.size or (8, 8))).require([arguments.seed, last])
    SteeringSettings(strength=strength)
    require_use(user_strength, arguments.user_start, arguments.user_end)


def _cannot(what: str) -> GenerateError:
    return GenerateError(
        f"Cannot {what}; expected a taste and the encoder that it was learned with. Name them with --for, or --taste "
        "and --encoder."
    )


def _best(
    arguments: argparse.Namespace, prompt: str, generator: Generator, number: int, whose: Whose
) -> tuple[Image.Image, Made]:
    """One picture: of so many as were asked for, the one that the tastes like best."""
    encoders = _encoders(generator, whose, f"keep the best of {whose.best}") if whose.best > 1 else []
    found: list[tuple[float, Image.Image, Made]] = []
    for place in range(whose.best):
        at = number * whose.best + place
        made = _made(arguments, prompt, generator, at, whose)
        image = generator.images(
            made.prompt,
            [made.seed],
            whose.tastes or None,
            made.strength,
            made.negative,
            made.steps,
            made.guidance,
            (made.width, made.height),
            on_step=_progress(at, arguments.count * whose.best),
            user=whose.user,
            user_strength=made.user_strength,
            user_start=made.user_start,
            user_end=made.user_end,
        )[0]
        told = zip(whose.tastes, encoders, strict=False)  # by nobody where there is nothing to choose from
        liked = sum(float(taste.utility(encoder.encode_images([image]))[0]) for taste, encoder in told)
        found.append((liked, image, made))
    return max(found, key=lambda one: one[0])[1:]


def _with_words(prompt: str, generator: Generator, whose: Whose) -> str:
    """The prompt with the words that were asked for, of each taste as many."""
    if not whose.words:
        return prompt
    from ..adapters.playground import words_known_by
    from ..adapters.taste import prompt_in_words

    encoders = _encoders(generator, whose, f"add --words {whose.words}")
    for taste, encoder in zip(whose.tastes, encoders, strict=True):
        prompt = prompt_in_words(prompt, taste, encoder, words_known_by(encoder.name), whose.words).prompt
    return prompt


def _encoders(generator: Generator, whose: Whose, cannot: str) -> list[ImageTextEncoder]:
    """The encoder of each taste; `cannot` is what needs them."""
    loaded = {encoder.identity: encoder for encoder in generator.encoders.values()}
    if all(taste.encoder in loaded for taste in whose.tastes):
        return [loaded[taste.encoder] for taste in whose.tastes]
    raise _cannot(f"{cannot}: the encoder of this taste isn't loaded")


def _made(arguments: argparse.Namespace, prompt: str, generator: Generator, number: int, whose: Whose) -> Made:
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
        whose.taste_parts,
        whose.strength if whose.tastes else 0.0,
        whose.user_parts,
        whose.user_strength if whose.user is not None else 0.0,
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


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and (height.isdigit() or not height)):
        raise argparse.ArgumentTypeError(f"{text!r} is no size; expected 512 or 768x512")
    return int(width), int(height or width)
