"""What the studies of fine-tuning have in common: their options, and the workshop that these open."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..finetune.losses import BETAS
from ..finetune.settings import TrainSettings
from ..steering import Generator
from ._options import positive
from ._postcards import Postcards, draw_postcards
from ._tuning import Workshop

__all__ = ["VIEWS", "cache_of", "cards_of", "common_options", "opened", "parsed", "settings_of", "training_options"]

VIEWS = 4  # postcards of a caption
_PROMPTS = 1_000_003  # from a study's seed to that of its prompts


def common_options(study: str, about: str | None, quick: str = "short trainings, to see that it works") -> Any:
    """The options that all of them take; a study adds its own to what comes back, an `ArgumentParser`."""
    parser = argparse.ArgumentParser(prog=f"palate study {study}", description=about)
    parser.add_argument("--model", default="playground", help="what paints postcards; as `palate generate` takes it")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--captions", type=positive, default=200, help="whose postcards are compared")
    parser.add_argument("--prompts", type=positive, default=40, help="other ones, that are painted")
    parser.add_argument("--sampling", type=positive, default=20, help="steps of sampling")
    parser.add_argument("--cache", default=None, help="folder of postcards and of trainings done before")
    parser.add_argument("--quick", action="store_true", help=quick)
    return parser


def parsed(parser: argparse.ArgumentParser, argv: Sequence[str], quick: Mapping[str, Any]) -> argparse.Namespace:
    """Read the options; with `--quick` these are set, and few captions, prompts and steps of sampling."""
    options = parser.parse_args(list(argv))
    if options.quick:
        vars(options).update({"captions": 4, "prompts": 2, "sampling": 2, **quick})
    if getattr(options, "trainings", 0) > options.captions:
        parser.error(f"--trainings {options.trainings}: each has captions of its own; expected --captions of as many")
    return options


def training_options(parser: Any) -> None:
    """Add what all trainings of a study have in common."""
    parser.add_argument("--steps", type=positive, default=100)
    parser.add_argument("--batch", type=positive, default=8)
    parser.add_argument("--rank", type=positive, default=8)
    parser.add_argument("--learning-rate", type=float, default=3e-3, help="for all (3e-3)")


def settings_of(options: argparse.Namespace, loss: str, seed: int, **more: Any) -> TrainSettings:
    """The settings of a training by these options: the loss's beta is the paper's, and no looks on the way."""
    said: dict[str, Any] = {name: getattr(options, name) for name in ("rank", "learning_rate", "steps", "batch")}
    return TrainSettings(
        **{"loss": loss, "beta": BETAS[loss], "seed": seed, "check_every": options.steps, **said, **more}
    )


def cache_of(options: argparse.Namespace) -> Path | None:
    """The folder of what was made before."""
    return None if options.cache is None else Path(options.cache)


def opened(options: argparse.Namespace, views: int = 1) -> tuple[Workshop, Postcards]:
    """The model ready for trainings, and drawn postcards of the prompts that it paints, so many of each."""
    generator, cache = Generator(options.model, options.device), cache_of(options)
    cards = draw_postcards(generator, options.prompts, options.seed + _PROMPTS, views, cache)
    cpu = options.device == "cpu"
    return Workshop(generator, cards.captions, options.seed, options.sampling, cache, cpu), cards


def cards_of(options: argparse.Namespace, workshop: Workshop, style: str = "", prompts: bool = False) -> Postcards:
    """The postcards that are trained on, or those of the prompts; the same ones in every style."""
    asked = (options.prompts, options.seed + _PROMPTS) if prompts else (options.captions, options.seed)
    return draw_postcards(workshop.generator, *asked, VIEWS, cache_of(options), style)
