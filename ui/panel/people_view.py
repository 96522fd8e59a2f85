"""The tab "People" as HTML; people.js fills it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

__all__ = ["Someone", "alike_table", "people_page", "people_rows"]

CURRENT = ' aria-current="true"'


@dataclass(frozen=True)
class Someone:
    """One person as a row: the accuracy in words, "" while it is unknown; when they last answered, s since 1970."""

    name: str
    answers: int
    accuracy: str
    last: float | None


def people_page() -> str:
    """Return the page without its rows."""
    return (
        '<section class="pl-people" aria-labelledby="palate-people-title">'
        '<header class="pl-title"><h1 id="palate-people-title">People</h1>'
        '<form id="palate-add"><label class="pl-hidden" for="palate-new-person">Name of somebody new</label>'
        '<input class="pl-input" id="palate-new-person" maxlength="4000" autocomplete="off" placeholder="Somebody new">'
        '<button type="submit" class="pl-main">Add</button></form></header>'
        '<div id="palate-people-rows"></div><div id="palate-alike"></div></section>'
        f"{_dialog('rename', 'Rename', 'New name', 'new-name', 'Cancel', 'Rename')}"
        f"{_dialog('forget', 'Delete all answers?', 'Type the name to confirm', 'forget-name', 'Keep them', 'Delete')}"
    )


def _dialog(name: str, title: str, label: str, field: str, no: str, yes: str) -> str:
    return (
        f'<dialog class="pl-dialog" id="palate-{name}" aria-labelledby="palate-{name}-title"><form method="dialog">'
        f'<h2 id="palate-{name}-title">{title}</h2><p id="palate-{name}-what"></p>'
        f'<label class="pl-field"><span>{label}</span><input type="text" id="palate-{field}" maxlength="4000" '
        'autocomplete="off" spellcheck="false"></label><p class="pl-wrong" role="alert" hidden></p>'
        f'<footer><button type="button" class="pl-quiet" data-close>{no}</button>'
        f'<button type="submit" class="pl-main">{yes}</button></footer></form></dialog>'
    )


def people_rows(people: Sequence[Someone], current: str) -> str:
    """Return a row a person; the one who is choosing is marked."""
    return f'<ul class="pl-rows">{"".join(_row(one, one.name == current) for one in people)}</ul>'


def alike_table(names: Sequence[str], shares: Any) -> str:
    """Return how often each two would choose the same picture; "" for fewer than two people.

    Args:
        shares: (P, P) in [0, 1].
    """
    if len(names) < 2:
        return ""
    heads = "".join(f'<th scope="col" title="{escape(name)}">{escape(name)}</th>' for name in names)
    rows = ""
    for i, (name, row) in enumerate(zip(names, shares, strict=True)):
        cells = "".join(_cell(float(share), i == j) for j, share in enumerate(row))
        rows += f'<tr><th scope="row" title="{escape(name)}">{escape(name)}</th>{cells}</tr>'
    return (
        '<h2 id="palate-alike-title">How alike</h2><div class="pl-scroll"><table aria-labelledby="palate-alike-title">'
        f"<thead><tr><td></td>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
        '<p class="pl-soft">How often two would choose the same picture. Strangers: 50\u00a0%.</p>'
    )


def _cell(share: float, same: bool) -> str:
    if same:
        return "<td></td>"
    return f'<td style="--share:{max(2 * share - 1, 0.0):.2f}">{100 * share:.0f}\u00a0%</td>'


def _row(one: Someone, current: bool) -> str:
    who = escape(one.name)
    answers = f"{one.answers} answer{'' if one.answers == 1 else 's'}"
    last, acts = "", [_act("use", "Switch", "to", one)]
    if current:
        acts = ['<span class="pl-here">choosing now</span>']
    if one.last is not None:
        last = f'<time data-time="{one.last:.0f}"></time>'
        acts += [_act("rename", "Rename", "", one), _act("forget", "Delete", "the answers of", one)]
    return (
        f'<li{CURRENT if current else ""}><div class="pl-name"><strong title="{who}">{who}</strong>'
        f'<span>{answers}{last}</span></div><span class="pl-known">{escape(one.accuracy)}</span>'
        f'<div class="pl-acts">{"".join(acts)}</div></li>'
    )


def _act(name: str, text: str, between: str, one: Someone) -> str:
    who = escape(one.name)
    return (
        f'<button type="button" class="pl-quiet" data-{name}="{who}" data-answers="{one.answers}">{text}'
        f'<span class="pl-hidden"> {between} {who}</span></button>'
    )
