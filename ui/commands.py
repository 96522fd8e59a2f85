"""What the commands of `palate` do, each a function from parsed arguments to an exit code."""

from __future__ import annotations

import argparse
import getpass
import importlib
import json
import pkgutil
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ..adapters.errors import PreferenceError

if TYPE_CHECKING:
    from .panel.gate import Rules

__all__ = [
    "blend",
    "compare",
    "evaluate",
    "export",
    "fit",
    "generate",
    "import_",
    "panel",
    "people",
    "prompt",
    "rank",
    "show",
    "store_folder",
    "studies",
    "study",
    "train",
    "user",
]


class CommandError(PreferenceError, ValueError):
    """A command that can't be run as it was given."""


def store_folder(given: str | None) -> Path:
    """Return the folder of the store: the one given, else the one in PALATE_HOME that the nodes use too."""
    from ..adapters.places import palate_home, typed_path

    return typed_path(given) if given else palate_home() / "store"


def panel(arguments: argparse.Namespace) -> int:
    """Open the panel and stay until it is closed with Ctrl-C."""
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise CommandError(
            "Cannot open the panel: Gradio is not installed here; expected gradio 6. Run `python install.py panel`."
        ) from error
    from .panel.preflight import check_start
    from .panel.server import open_panel
    from .panel.tools import real_tools

    encoders = arguments.encoder or []
    if advice := check_start(arguments.model, encoders, arguments.device):
        print(f"palate: {advice}", file=sys.stderr)
    tools = real_tools(arguments.model, encoders, arguments.device, arguments.offload)
    open_panel(
        store_folder(arguments.store),
        tools,
        person=arguments.person,
        port=arguments.port,
        browser=not arguments.no_browser,
        rules=_rules(arguments),
    )
    return 0


def _rules(arguments: argparse.Namespace) -> Rules:
    """Who gets in; asks for the password on the terminal where none is set."""
    from .panel.gate import Rules

    rules = Rules.from_environment(arguments.read_only)
    if arguments.password and not rules.password:
        typed = getpass.getpass("Password for the panel: ") if sys.stdin.isatty() else ""
        if not typed:
            raise CommandError("Cannot ask for a password: none was given; expected one in PALATE_PASSWORD, or typed.")
        rules = replace(rules, password=typed)
    return rules


def people(arguments: argparse.Namespace) -> int:
    """Print who has answered in the store, one person a line, with the number of answers; skipped pairs are none."""
    from ..adapters.comparisons import PreferenceStore

    with PreferenceStore.existing(store_folder(arguments.store)) as store:
        found = sorted(store.people_answers(), key=lambda one: one.person)
        if arguments.json:
            print(json.dumps({"people": [{"person": one.person, "answers": one.answers} for one in found]}))
            return 0
        for one in found:
            print(f"{one.person}\t{one.answers}")
        if not found:  # for people; a script that reads the lines finds none
            print(f"Nobody has answered in {store.path} yet. Open `palate panel` and compare.", file=sys.stderr)
    return 0


def show(arguments: argparse.Namespace) -> int:
    """Tell what was learned of a person, or save it as a page."""
    from .show import show_taste

    return show_taste(arguments, store_folder(arguments.store))


def fit(arguments: argparse.Namespace) -> int:
    """Learn a person's taste and save it as a file."""
    from . import tastes

    return tastes.fit(arguments, store_folder(arguments.store))


def rank(arguments: argparse.Namespace) -> int:
    """Print a folder's pictures, best first."""
    from . import rank as room

    return room.rank(arguments, store_folder(arguments.store))


def prompt(arguments: argparse.Namespace) -> int:
    """Print a prompt with what a person likes said in words."""
    from . import wording

    return wording.prompt(arguments, store_folder(arguments.store))


def next_prompts(arguments: argparse.Namespace) -> int:
    """Print which prompts to make pictures of next."""
    from . import asking

    return asking.next_prompts(arguments, store_folder(arguments.store))


def evaluate(arguments: argparse.Namespace) -> int:
    """Score folders of pictures."""
    from . import evaluate as room

    return room.evaluate(arguments, store_folder(arguments.store))


def blend(arguments: argparse.Namespace) -> int:
    """Add tastes up."""
    from . import tastes

    return tastes.blend(arguments)


def import_(arguments: argparse.Namespace) -> int:
    """Bring in answers or tastes of other tools."""
    from . import exchange

    return exchange.import_(arguments, store_folder(arguments.store))


def compare(arguments: argparse.Namespace) -> int:
    """Record which of two pictures somebody prefers."""
    from . import exchange

    return exchange.compare(arguments, store_folder(arguments.store))


def generate(arguments: argparse.Namespace) -> int:
    """Make pictures by prompt and seed."""
    from .generate import generate as make

    return make(arguments, store_folder(arguments.store))


def user(arguments: argparse.Namespace) -> int:
    """Make a person's user embedding and save it."""
    from .users import user as make

    return make(arguments, store_folder(arguments.store))


def export(arguments: argparse.Namespace) -> int:
    """Make files for other tools."""
    if arguments.kind == "answers":
        from .exchange import export_answers_command

        return export_answers_command(arguments, store_folder(arguments.store))
    if arguments.kind == "checkpoint":
        from .merge import merge_command

        return merge_command(arguments)
    from .export import export_embedding

    return export_embedding(arguments, store_folder(arguments.store))


def studies() -> list[str]:
    """Return the names of all studies, as they are typed."""
    try:
        package = importlib.import_module("..adapters.studies", __package__)
    except ModuleNotFoundError:
        return []
    found = (module.name for module in pkgutil.iter_modules(package.__path__))
    return sorted(name.replace("_", "-") for name in found if not name.startswith("_"))


def study(arguments: argparse.Namespace) -> int:
    """Run the study `adapters/studies/<name>.py` with the remaining arguments."""
    known = studies()
    listed = ", ".join(known) or "none in this installation"
    if arguments.name in (None, "-h", "--help"):
        print(f"usage: palate study NAME [options] [--json]\n\nstudies: {listed}")
        return 0
    name = str(arguments.name).replace("_", "-")
    if name not in known or not re.fullmatch(r"[a-z0-9-]+", name):
        raise CommandError(f"Cannot run the study {arguments.name!r}: no such study; expected one of: {listed}.")
    module = importlib.import_module(f"..adapters.studies.{name.replace('-', '_')}", __package__)
    run = getattr(module, "run", None)
    if run is None:
        raise CommandError(f"Cannot run the study {name!r}: it has no run(argv); expected one of: {listed}.")
    given, study_run = list(arguments.arguments), cast("Callable[[list[str]], int]", run)
    if "--json" in given:
        from .study_tables import run_as_json

        return run_as_json(name, study_run, [word for word in given if word != "--json"])
    return study_run(given)


def train(arguments: argparse.Namespace) -> int:
    """Train a LoRA on a person's answers, or a PPD on many people's."""
    if arguments.kind == "ppd":
        from .train_ppd import train_ppd_command

        return train_ppd_command(arguments, store_folder(arguments.store))
    from .train import train_lora_command

    return train_lora_command(arguments, store_folder(arguments.store))
