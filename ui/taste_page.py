"""A file of Palate's as a page: a drawing of it, and what it says of itself."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..adapters.files import TasteFile
    from .cards import Card

__all__ = ["card_page", "facts_of"]

_STYLE = """
:root { color-scheme: light dark; } body { margin: 0; font: 16px/1.5 ui-sans-serif, system-ui, sans-serif; }
main { max-width: 960px; margin: 0 auto; padding: 32px 16px; } img { width: 100%; height: auto; border-radius: 12px; }
svg { max-width: 100%; height: auto; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 24px; } dt { opacity: .65; }
dd { margin: 0; overflow-wrap: anywhere; }
"""


def facts_of(said: TasteFile) -> list[tuple[str, str]]:
    """Return what a file says of itself as (what, told), only what it does say."""
    told = [
        ("Whose", said.person),
        ("Answers", str(said.answers)),
        ("Foresaw", "" if said.accuracy is None else str(said.accuracy)),
        ("Encoder", f"{said.encoder_name} ({said.encoder[:12]})".strip()),
        ("Model family", said.base),
        ("Made", said.created),
        ("Author", said.author),
        ("Licence", said.licence),
        ("Inside", f"{said.width} numbers, {said.size / 1000:.0f} KB; no pictures, no prompts"),
    ]
    return [(name, value) for name, value in told if value]


def card_page(card: Card) -> str:
    """Return an HTML page that asks the network for nothing."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in card.facts)
    note = f"<p>{escape(card.note)}</p>" if card.note else ""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{escape(card.title)}</title>'
        f"<style>{_STYLE}</style></head>\n<body><main><h1>{escape(card.title)}</h1>"
        f"{card.drawing}<dl>{facts}</dl>{note}</main></body></html>\n"
    )
