"""A taste as one HTML file to show to others: words, plot, strip, pictures and map, everything inside of it.

The file asks the network for nothing, and its own Content-Security-Policy holds it to that: no address but `data:`, no
script but the one that it came with.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from ...adapters.errors import ImageError
from .taste_learned import Learned
from .taste_parts import Pictures, accuracy_of, map_of, row_of, strip_of, words_of_taste
from .taste_thumbs import thumbnail

if TYPE_CHECKING:
    from PIL import Image

    from ...adapters.taste import LearningReport

__all__ = ["LARGEST", "Sheet", "document"]

FOLDER = Path(__file__).resolve().parent
LARGEST = 3_000_000  # bytes of the file
SIZES = ((256, 160, 80), (224, 128, 72), (176, 96, 64), (128, 64, 50))  # px in rows, px on the map, quality; first fit
SCRIPTS = ("plot.js", "taste_curve.js", "taste_large.js", "taste_map.js")
BEGIN = """
for (const map of document.querySelectorAll("[data-map]")) window.palateMap(map);
const curve = document.querySelector('[data-part="curve"]');
if (curve) window.palateCurve(curve, JSON.parse(document.getElementById("told").textContent));
"""
STYLE = """
* { box-sizing: border-box; } img { display: block; } button { font: inherit; }
body { margin: 0; background: var(--pl-paper); color: var(--pl-ink);
  font: var(--pl-text)/1.45 ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: var(--pl-5) var(--pl-4) var(--pl-7); }
h1 { font-size: var(--pl-large); font-weight: 660; letter-spacing: -.025em; line-height: 1.2; margin: 0; }
h1, h1 + p, footer { overflow-wrap: anywhere; } h1 + p { margin: var(--pl-2) 0 0; color: var(--pl-soft); }
:focus-visible { outline: 2px solid var(--pl-accent); outline-offset: 2px; }
footer { margin-top: var(--pl-7); padding-top: var(--pl-4); border-top: 1px solid var(--pl-line); color: var(--pl-soft);
  font-size: var(--pl-small); }
.pl-round { width: 36px; height: 36px; padding: 0; border: 0; border-radius: 50%; background: none; cursor: pointer; }
"""


@dataclass(frozen=True)
class Sheet:
    """What a saved page holds.

    Attributes:
        learned: Of everything, or of one prompt.
        report: How good it is; None leaves that out.
        named: Whether it says whose taste it is. prompts: Whether it says what pictures were made from.
        version: Palate's.
        created: Seconds since 1970 UTC.
    """

    learned: Learned
    report: LearningReport | None
    named: bool = False
    prompts: bool = False
    version: str = ""
    created: float | None = None


def document(sheet: Sheet, read: Callable[[str], Image.Image], tell: Callable[[int, int], None] | None = None) -> str:
    """Return the page.

    Args:
        sheet: What to show.
        read: Gives a picture by its id; ImageError leaves it out.
        tell: Hears (pictures done, of how many); may raise to stop.
    """
    data = sheet.learned
    rows, dots = [*data.strip, *data.best, *data.worst], [place.image for place in data.map]
    wanted = list(dict.fromkeys([*rows, *dots]))
    large: dict[str, Image.Image] = {}
    for number, image in enumerate(wanted):
        if tell is not None:
            tell(number, len(wanted))
        try:
            large[image] = _reduced(read(image))
        except ImageError:  # lost or damaged since
            continue
    page = ""
    for row_side, dot_side, quality in SIZES:
        page = _page(sheet, large, (row_side, dot_side, quality))
        if len(page.encode()) <= LARGEST:
            return page
    while len(page.encode()) > LARGEST and data.map:  # pictures of noise, say
        data = replace(data, map=data.map[: len(data.map) // 2])
        page = _page(replace(sheet, learned=data), large, SIZES[-1])
    return page


def _reduced(image: Image.Image) -> Image.Image:
    small = image.convert("RGB")
    small.thumbnail((SIZES[0][0], SIZES[0][0]))
    return small


def _page(sheet: Sheet, large: dict[str, Image.Image], sizes: tuple[int, int, int]) -> str:
    row_side, dot_side, quality = sizes
    data = _with_pictures(sheet.learned, set(large))
    prompts = data.prompts if sheet.prompts else {}

    def pictures(side: int) -> Pictures:
        return Pictures(lambda image: _address(thumbnail(large[image], side, quality)), lambda image: "", prompts)

    row = pictures(row_side)
    title = f"What {data.person} likes" if sheet.named else "A taste"
    about = f"<p>Pictures of “{escape(data.subject)}”</p>" if sheet.prompts and data.subject else ""
    how_good = "" if sheet.report is None else f"<div>{accuracy_of(sheet.report, 'this')}</div>"
    strip, plan = strip_of(data.strip, row), map_of(data.map, pictures(dot_side))
    body = (
        f"<header><h1>{escape(title)}</h1>{about}</header>"
        f'<div class="pl-known-by">{words_of_taste(data)}{how_good}</div>'
        f"{f'<h2>From “not me” to “me”</h2>{strip}' if strip else ''}"
        f"{row_of('Liked most', data.best, row)}{row_of('Liked least', data.worst, row)}"
        f"{f'<h2>Map</h2>{plan}' if plan else ''}<footer>{_origin(sheet)}</footer>"
    )
    return _whole(title, body, sheet.report)


def _whole(title: str, body: str, report: LearningReport | None) -> str:
    told = {"curve": report.curve if report else (), "ceiling": report.ceiling if report else None}
    script = "\n".join(_text(name) for name in SCRIPTS) + BEGIN
    known = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{known}'; base-uri 'none'; "
        "form-action 'none'"
    )
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" '
        f'content="{policy}"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="referrer" content="no-referrer"><meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{_style()}</style></head>\n"
        f'<body><main class="pl-taste">{body}</main>\n'
        f'<script type="application/json" id="told">{json.dumps(told)}</script>\n'
        f"<script>{script}</script></body></html>\n"
    )


def _style() -> str:
    """Return the panel's own tokens and looks of "Taste"; here light and dark are the reader's."""
    tokens = _text("panel.css").partition("body, gradio-app")[0]
    light, _, dark = tokens.partition(".dark {")
    return f"{light}@media (prefers-color-scheme: dark) {{ :root {{{dark} }}\n{STYLE}{_text('taste.css')}"


def _text(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _origin(sheet: Sheet) -> str:
    data = sheet.learned
    day = time.strftime("%Y-%m-%d", time.gmtime(sheet.created))
    answers = f"learned from {data.answers} answer{'' if data.answers == 1 else 's'}"
    encoder = f"with {data.encoder_name or 'an encoder'} ({data.encoder[:12]})"
    return escape(f"Palate {sheet.version} · {day} · {answers} {encoder}".replace("  ", " "))


def _with_pictures(data: Learned, known: set[str]) -> Learned:
    """Return it without the pictures that can't be read."""

    def kept(images: Sequence[str]) -> tuple[str, ...]:
        return tuple(image for image in images if image in known)

    places = tuple(place for place in data.map if place.image in known)
    return replace(data, strip=kept(data.strip), best=kept(data.best), worst=kept(data.worst), map=places)


def _address(data: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
