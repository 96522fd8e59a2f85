"""`palate show PERSON|FILE`: what was learned of a person or is in a file of Palate's, in words or as one HTML file."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..adapters.errors import PreferenceError
from .terminal import progress_line

if TYPE_CHECKING:
    from ..adapters.taste import WordEffect
    from .panel.studio import Studio
    from .panel.taste_learned import Looks
    from .panel.tools import Tools

__all__ = ["ShowError", "show_taste"]

_ENDINGS = (".safetensors", ".png", ".pt", ".pth", ".bin", ".ckpt")


class ShowError(PreferenceError, LookupError):
    """A person or a page that can't be shown as it was asked for."""


def show_taste(arguments: argparse.Namespace, store: Path, tools: Tools | None = None) -> int:
    """Tell what was learned of a person or is in a file of Palate's, or save it as a page.

    Args:
        arguments: person, html, json, prompt, named, prompts, model, encoder, device; as in `cli.py`.
        store: Folder of the answers.
        tools: Fakes in tests; None: the real ones.

    Raises:
        ShowError: nobody of this name answered.
        NotEnoughAnswersError: nothing to learn from yet.
        StoreError: there is no store, or the page can't be written.
        FileFormatError: it names a file that Palate didn't write.
    """
    if arguments.person.lower().endswith(_ENDINGS) or _is_file(arguments.person):
        return _show_file(arguments)
    from ..adapters.comparisons import PreferenceStore

    with PreferenceStore.existing(store) as answers:  # before PyTorch is loaded, for seconds
        _require(arguments.person, answers.people())
    from ..adapters.places import typed_path
    from .panel.studio import Studio
    from .panel.taste_learned import Looks
    from .panel.taste_pages import Pages, write_page
    from .panel.tools import real_tools

    made = tools or real_tools(arguments.model, arguments.encoder or [], arguments.device)
    studio = Studio(store, made, arguments.person)
    try:
        looks = Looks(studio)
        looks.encode(arguments.person, "", progress_line("Looking at pictures", sys.stderr) or _quiet)
        looks.encode_others(arguments.person, progress_line("Looking at what others saw", sys.stderr) or _quiet)
        if arguments.json:
            print(json.dumps(_as_json(studio, looks, arguments.person, arguments.prompt), ensure_ascii=False))
            return 0
        if not arguments.html:
            print(_in_words(studio, looks, arguments.person, arguments.prompt))
            return 0
        path = typed_path(arguments.html)
        pages = Pages(studio, looks)
        write_page(path, pages.html(arguments.person, arguments.prompt, arguments.named, arguments.prompts))
        print(f"Saved {path} ({path.stat().st_size / 1000:.0f} KB): open it in any browser.")
    finally:
        studio.close()
    return 0


def _show_file(arguments: argparse.Namespace) -> int:
    from ..adapters.places import typed_path
    from .cards import read_card
    from .panel.taste_pages import write_page
    from .taste_page import card_page

    card = read_card(arguments.person)
    if arguments.json:
        print(json.dumps(card.told | {"kind": card.kind}, ensure_ascii=False))
    elif arguments.html:
        path = typed_path(arguments.html)
        write_page(path, card_page(card))
        print(f"Saved {path} ({path.stat().st_size / 1000:.0f} KB): open it in any browser.")
    else:
        wide = max(len(name) for name, _ in card.facts)
        lines = [f"{name:{wide}}  {_printable(value)}" for name, value in card.facts]
        print("\n".join([_printable(card.title), *lines]))
    return 0


def _is_file(word: str) -> bool:
    """Whether a word with a folder or an ending is a file's, and nobody's name."""
    return any(mark in word for mark in "/\\.") and os.path.isfile(os.path.expanduser(word))


def _printable(text: str) -> str:
    """Somebody else's text, without what would move the cursor, clear the terminal or look like another line."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _as_json(studio: Studio, looks: Looks, person: str, prompt: str) -> dict[str, Any]:
    learned, report = looks.of(person, prompt), studio.reports.of(person)
    found = {key: value for key, value in vars(report).items() if key not in ("hits", "curve")}
    for side in ("likes", "dislikes"):
        words: Sequence[WordEffect] = getattr(learned, side) or ()
        found[side] = [{"word": one.word.text, "effect": round(one.effect, 4), "sure": one.sure} for one in words]
    return found


def _quiet(done: int, count: int) -> None:
    """Say nothing where nobody looks at a terminal."""


def _require(person: str, people: Sequence[str]) -> None:
    if person in people:
        return
    listed = ", ".join(people[:12]) + (", ..." if len(people) > 12 else "")
    raise ShowError(
        f"Cannot show {person[:60]!r}: nobody of this name has answered; expected one of: {listed or 'nobody yet'}."
    )


def _in_words(studio: Studio, looks: Looks, person: str, prompt: str) -> str:
    learned, report = looks.of(person, prompt), studio.reports.of(person)
    about = f", pictures of {prompt!r}" if prompt else ""
    count = "1 answer" if learned.answers == 1 else f"{learned.answers} answers"
    lines = [f"{person}: {count}{about}"]
    if learned.likes is not None:
        lines += [_line("likes", learned.likes), _line("dislikes", learned.dislikes or ())]
    if report.stranger_accuracy is not None and report.accuracy is not None:
        others = f"The average of others foresees {100 * report.stranger_accuracy:.0f} % of the same answers."
        return "\n".join([*lines, report.summary, others, report.advice])
    return "\n".join([*lines, report.summary, report.advice])


def _line(title: str, words: Sequence[WordEffect]) -> str:
    """Words of known sign plain, likely ones in brackets."""
    told = ", ".join(one.word.text if one.sure else f"({one.word.text})" for one in words)
    return f"{title:10}{told or 'no word is likely yet'}"
