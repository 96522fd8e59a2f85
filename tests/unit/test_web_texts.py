"""The browser side says nothing that its locales lack, and imports nothing but its own files and ComfyUI's two."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted((ROOT / "ui" / "web").rglob("*.js"))
LOCALES = sorted(path.parent for path in (ROOT / "locales").glob("*/main.json"))
OFFERED = {"/scripts/app.js", "/scripts/api.js"}


def leaves(book: dict[str, Any], above: str = "") -> dict[str, str]:
    """Texts by dotted key; texts by plural category count as one, their `other`."""
    found = {}
    for name, value in book.items():
        if isinstance(value, dict):
            found |= {above + name: value["other"]} if "other" in value else leaves(value, f"{above}{name}.")
        else:
            found[above + name] = value
    return found


def texts(locale: Path) -> dict[str, str]:
    return leaves(json.loads((locale / "main.json").read_text(encoding="utf-8"))["palate"])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_every_text_that_a_script_says_is_there_in_english(script: Path) -> None:
    code = script.read_text(encoding="utf-8")
    known = texts(ROOT / "locales" / "en")
    said = set(re.findall(r'\bsay\(\s*"([\w.]+)"', code))
    rooms = "|".join({key.split(".")[0] for key in known})
    said |= set(re.findall(rf'"((?:{rooms})\.\w+)"', code))  # say(some ? "tab.one" : "tab.other")
    assert sorted(said - set(known)) == []
    for start in re.findall(r"\bsay\(\s*`([\w.]+\.)\$", code):  # say(`answer.${outcome}`)
        assert any(key.startswith(start) for key in known), start


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_imports_only_ours_and_the_two_that_comfyui_offers(script: Path) -> None:
    code = script.read_text(encoding="utf-8")
    imported = set(re.findall(r'^(?:import|export)\b[^"]*?\bfrom "([^"]+)"', code, re.MULTILINE))
    for path in imported - OFFERED:
        assert path.startswith("./") and (script.parent / path).is_file(), path
    assert not re.search(r"(?<!\{)\b(import|eval)\(", code)  # but for types in comments
    assert {url for url in re.findall(r"https?://[\w./]+", code)} <= {"http://www.w3.org/2000/svg"}


@pytest.mark.parametrize("locale", LOCALES, ids=lambda path: path.name)
def test_a_language_has_the_keys_and_the_places_of_english(locale: Path) -> None:
    english, own = texts(ROOT / "locales" / "en"), texts(locale)
    assert set(own) <= set(english)
    for key, text in own.items():
        assert set(re.findall(r"\{(\w+)\}", text)) == set(re.findall(r"\{(\w+)\}", english[key])), key


def test_what_comfyui_shows_before_it_has_translations_is_the_english_translation() -> None:
    code = (ROOT / "ui" / "web" / "sidebar.js").read_text(encoding="utf-8")
    english = ROOT / "locales" / "en"
    commands = json.loads((english / "commands.json").read_text(encoding="utf-8"))
    rows = re.findall(r'\["(\w+)", "\w+", "\w+", "([^"]+)"\]', code)
    anywhere = (ROOT / "ui" / "web" / "palate" / "anywhere.js").read_text(encoding="utf-8")
    rows += [("Compare", label) for label in re.findall(r'"(Palate: [^"]+)"', anywhere)]
    assert {f"Palate_{name}": {"label": label} for name, label in rows} == commands
    settings = json.loads((english / "settings.json").read_text(encoding="utf-8"))
    ids = dict(re.findall(r'const (\w+) = "(Palate\.\w+)"', code))
    named = re.findall(r'id: (\w+),\s*name: "([^"]+)"', code)
    assert {ids[name].replace(".", "_"): text for name, text in named} == {k: v["name"] for k, v in settings.items()}
