"""`palate study NAME --json`: what a study prints, as one JSON object with its tables taken apart."""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["run_as_json", "tables_of"]

_RULE = re.compile(r"\|?\s*:?-{3,}:?\s*(\|\s*:?-{3,}:?\s*)*\|?")


def run_as_json(name: str, run: Callable[[list[str]], int], arguments: list[str]) -> int:
    """Run a study and print {"study", "code", "tables", "text"}; the text is what it prints without --json.

    Returns:
        The study's own exit code.
    """
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = run(arguments)
    text = printed.getvalue()
    json.dump({"study": name, "code": code, "tables": tables_of(text), "text": text}, sys.stdout, ensure_ascii=False)
    sys.stdout.write("\n")
    return code


def tables_of(text: str) -> list[dict[str, Any]]:
    """Return the Markdown tables of a text: title (the last line before), columns, and rows by column.

    By hand: "T\\n\\n| a | b |\\n|---|---|\\n| 1 | x |" is {"title": "T", "columns": ["a", "b"], "rows": [["1", "x"]]}.
    """
    lines, found, title, place = text.splitlines(), list[dict[str, Any]](), "", 0
    while place < len(lines):
        if place + 1 < len(lines) and "|" in lines[place] and _RULE.fullmatch(lines[place + 1].strip()):
            columns, rows = _cells(lines[place]), []
            place += 2
            while place < len(lines) and lines[place].lstrip().startswith("|"):
                rows.append(_cells(lines[place]))
                place += 1
            found.append({"title": title, "columns": columns, "rows": rows})
            continue
        title = lines[place].strip() or title
        place += 1
    return found


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]
