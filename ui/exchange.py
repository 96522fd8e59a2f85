"""`palate import`, `export answers` and `compare`: answers in and out, without a browser."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..adapters.errors import PreferenceError

if TYPE_CHECKING:
    from ..adapters.exchange import Imported

__all__ = ["add_exchange_commands", "answer_options", "compare", "export_answers_command", "import_"]


class ExchangeError(PreferenceError, ValueError):
    """A command that can't be run as it was given."""


def add_exchange_commands(commands: Any, store_option: Callable[[argparse.ArgumentParser], None]) -> None:
    """Add `import` and `compare` to the parser of the command line."""
    bring = commands.add_parser("import", help="bring in answers or tastes of other tools")
    bring.add_argument(
        "source",
        metavar="FILE|FOLDER",
        help="folders such as chosen and rejected; .jsonl, .json, .csv, .parquet; aesthetic gradients (.pt)",
    )
    bring.add_argument("--person", default="", metavar="NAME", help="whose they are (default: as the source says)")
    bring.add_argument("--prompt", default="", metavar="TEXT", help="where neither source nor pictures say")
    bring.add_argument("--images", default=None, metavar="FOLDER", help="where the pictures it names are")
    bring.add_argument("--encoder", default="open_clip:ViT-L-14/openai", metavar="SPEC", help="of aesthetic gradients")
    bring.add_argument(
        "-o", "--output", default=None, metavar="FILE", help="of the taste (default: PALATE_HOME/tastes)"
    )
    bring.add_argument("--json", action="store_true", help="print one JSON object")
    store_option(bring)
    one = commands.add_parser("compare", help="record which of two pictures somebody prefers")
    one.add_argument("left", metavar="PICTURE")
    one.add_argument("right", metavar="PICTURE")
    one.add_argument("outcome", choices=("left", "right", "tie", "both_bad"), help="the answer")
    one.add_argument("--person", default="me", metavar="NAME", help="whose (default: me)")
    one.add_argument("--prompt", default="", metavar="TEXT", help="what both were made from (default: as they say)")
    one.add_argument("--json", action="store_true", help="print one JSON object")
    store_option(one)


def answer_options(answers: argparse.ArgumentParser, store_option: Callable[[argparse.ArgumentParser], None]) -> None:
    """Set the options of `palate export answers`."""
    answers.add_argument("--person", action="append", metavar="NAME", help="whose; several times (default: everybody)")
    answers.add_argument("--format", default="jsonl", choices=("folders", "jsonl", "datasets"), help="(default: jsonl)")
    answers.add_argument("--named", action="store_true", help="keep people's names; else they are numbered")
    answers.add_argument("-o", "--output", required=True, metavar="FOLDER", help="new or empty")
    answers.add_argument("--json", action="store_true", help="print one JSON object")
    store_option(answers)


def import_(arguments: argparse.Namespace, store: Path) -> int:
    """Bring in answers, or a taste from a `.pt` file.

    Raises:
        FileFormatError: nothing of a known kind there.
        ExchangeError: not one row of it could be used.
    """
    from ..adapters.places import typed_path

    source = typed_path(arguments.source)
    if source.suffix.lower() == ".pt":
        return _import_taste(arguments, source)
    from ..adapters.comparisons import PreferenceStore
    from ..adapters.exchange import NAMELESS, import_answers, read_source

    answers = read_source(source, typed_path(arguments.images) if arguments.images else None)
    with PreferenceStore(store) as opened:
        found = import_answers(opened, answers, arguments.person, arguments.prompt, _counter())
    if found.lost and not found.added and not found.doubled:
        raise ExchangeError(f"Cannot import {source}: none of {found.lost} rows could be used. {_first(found)}")
    if arguments.json:
        why = [{"where": one.where, "why": one.why} for one in found.why]
        told = {"added": found.added, "doubled": found.doubled, "lost": found.lost, "people": sorted(found.people)}
        print(json.dumps(told | {"why": why}, ensure_ascii=False))
        return 0
    whose = f" of {', '.join(map(repr, sorted(found.people)[:3]))}" if found.people else ""
    more = f" and {len(found.people) - 3} more" if len(found.people) > 3 else ""
    added = "1 answer" if found.added == 1 else f"{found.added} answers"
    print(f"{added}{whose}{more} added, {found.doubled} had been there, {found.lost} could not be used.")
    if found.people == {NAMELESS} and not arguments.person:
        print(f"palate: Nobody was named: see `palate show {NAMELESS}`, or import with --person.", file=sys.stderr)
    for one in found.why:
        print(f"palate: {one.where}: {one.why}", file=sys.stderr)
    return 0


def compare(arguments: argparse.Namespace, store: Path) -> int:
    """Record one answer.

    Raises:
        ImageError, ComparisonError, StoreError: as the store says.
    """
    from ..adapters.comparisons import Comparison, PreferenceStore
    from ..adapters.exchange import facts_of_picture
    from ..adapters.places import typed_path

    files = [typed_path(arguments.left), typed_path(arguments.right)]
    facts = [facts_of_picture(file) for file in files]
    prompt = arguments.prompt or (facts[0].prompt if facts[0].prompt == facts[1].prompt else "")
    model = facts[0].model if facts[0].model == facts[1].model else ""
    with PreferenceStore(store) as answers:
        left, right = (answers.add_image(file) for file in files)
        said = Comparison(
            arguments.person, left, right, arguments.outcome, prompt, facts[0].seed, facts[1].seed, model, "command"
        )
        number, count = answers.add(said).id, answers.count(arguments.person)
    if arguments.json:
        print(json.dumps({"id": number, "left": left, "right": right, "outcome": arguments.outcome, "answers": count}))
    else:
        print(f"Recorded: answer {count} of {arguments.person!r}.")
    return 0


def export_answers_command(arguments: argparse.Namespace, store: Path) -> int:
    """Write answers for other tools.

    Raises:
        NotEnoughAnswersError, StoreError: as `export_answers` says.
        ExchangeError: nobody of a name answered.
    """
    from ..adapters.comparisons import PreferenceStore

    with PreferenceStore.existing(store) as answers:  # before PyTorch is loaded, for seconds
        from ..adapters.exchange import export_answers
        from ..adapters.places import typed_path

        known = answers.people()
        if strangers := [name for name in arguments.person or [] if name not in known]:
            raise ExchangeError(
                f"Cannot export: nobody called {strangers[0][:60]!r} has answered. See `palate people`."
            )
        found = export_answers(
            answers, typed_path(arguments.output), arguments.format, arguments.person or (), arguments.named
        )
    if arguments.json:
        told = {"folder": str(found.folder), "answers": found.answers, "people": found.people, "lost": found.lost}
        print(json.dumps(told))
        return 0
    people = "1 person" if found.people == 1 else f"{found.people} people"
    count = "1 answer" if found.answers == 1 else f"{found.answers} answers"
    print(f"Saved {count} of {people} in {found.folder}.")
    if found.lost:
        print(f"palate: {found.lost} answers are left out: their pictures are gone.", file=sys.stderr)
    return 0


def _import_taste(arguments: argparse.Namespace, source: Path) -> int:
    from dataclasses import replace

    from ..adapters.encoders import load_encoder
    from ..adapters.exchange import read_aesthetic_gradient
    from ..adapters.files import place_taste, save_taste
    from ..adapters.files.taste_file import taste_bytes
    from ..adapters.places import safe_name, tastes_folder
    from .tastes import file_to_save
    from .terminal import silence

    silence()
    encoder = load_encoder(arguments.encoder)
    taste = read_aesthetic_gradient(source, encoder, encoder.dim)
    taste = replace(taste, person=arguments.person or taste.person)
    if arguments.output:
        saved = save_taste(taste, file_to_save(arguments.output))
    else:  # what is on the shelf stays: somebody's own taste may have this name
        saved = place_taste(safe_name(source.stem), taste_bytes(taste), tastes_folder())
    print(json.dumps({"file": str(saved)}) if arguments.json else f"Saved {saved}")
    return 0


def _counter() -> Callable[[Imported], None] | None:
    """Progress on one line of a terminal; in a pipe or a file nothing is written."""
    if not sys.stderr.isatty():
        return None

    def show(found: Imported) -> None:
        sys.stderr.write(f"\r{found.added + found.doubled + found.lost} rows")
        sys.stderr.flush()

    return show


def _first(found: Imported) -> str:
    return f"The first: {found.why[0].where}: {found.why[0].why.rstrip('.')}." if found.why else ""
