"""Help where people look: every node has a page with a picture, and every language says all that English says."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
DOCS, LOCALES = ROOT / "ui" / "web" / "docs", ROOT / "locales"
LANGUAGES = sorted(folder.name for folder in LOCALES.iterdir() if folder.is_dir())
IMAGE = re.compile(r"!\[[^\]]+\]\(([^)]+)\)")


def node_ids() -> set[str]:
    """Every node_id that a schema in `nodes/` is made with."""
    found = set()
    for file in (ROOT / "nodes").glob("*.py"):
        for call in (node for node in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(node, ast.Call)):
            found |= {k.value.value for k in call.keywords if k.arg == "node_id" and isinstance(k.value, ast.Constant)}
    return found


def texts(value: Any, path: str = "") -> dict[str, str]:
    """All texts of a JSON file by where they are."""
    if isinstance(value, str):
        return {path: value}
    return {key: text for name, part in value.items() for key, text in texts(part, f"{path}/{name}").items()}


@pytest.mark.parametrize("node", sorted(node_ids()))
def test_a_node_has_a_page_with_a_picture(node: str) -> None:
    pages = [DOCS / f"{node}.md", *(DOCS / node).glob("*.md")]
    for page in pages:
        images = IMAGE.findall(page.read_text("utf-8"))
        assert f"{node}/node.webp" in images
        for image in images:  # paths start at the docs folder, in a page of another language too
            with Image.open(DOCS / image) as opened:
                assert min(opened.size) > 100 and (DOCS / image).stat().st_size < 60_000


def test_no_page_is_left_of_a_node_that_is_gone() -> None:
    assert {page.stem for page in DOCS.glob("*.md")} == node_ids()


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", ["main", "nodeDefs", "commands", "settings"])
def test_a_language_says_all_that_english_says(language: str, name: str) -> None:
    english, theirs = (
        texts(json.loads((LOCALES / folder / f"{name}.json").read_text("utf-8"))) for folder in ("en", language)
    )
    # One and other are English's forms; a language has those that it has.
    counted = {key for key in english if key.endswith(("/one", "/other"))}
    assert {key for key in english if key not in counted} == {k for k in theirs if not k.endswith(("/one", "/other"))}
    assert {key.rpartition("/")[0] for key in counted} == {
        k.rpartition("/")[0] for k in theirs if k.endswith(("/one", "/other"))
    }
    for key, text in theirs.items():
        assert text.strip()
        same = english.get(key) or english[key.rpartition("/")[0] + "/other"]
        assert sorted(re.findall(r"\{\w+\}", text)) == sorted(re.findall(r"\{\w+\}", same)), key
