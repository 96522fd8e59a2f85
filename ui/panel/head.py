"""The head of the page: mark, tabs, who is choosing, how many answers, light or dark; and where notes appear."""

from __future__ import annotations

from html import escape

__all__ = ["TABS", "head"]

ONLY = '<span class="pl-only" title="Nothing can be changed here">for looking only</span>'
TABS = ("compare", "taste", "generate", "train", "share", "people")


def head(person: str, given: bool, offered: tuple[str, ...] = TABS) -> str:
    """Return the head; `panel.js` makes it work.

    Args:
        person: Who is choosing where the browser doesn't know better.
        given: Whether the panel was opened for this person, which overrules what the browser remembers.
        offered: Those of `TABS` that can be opened; fewer where nothing can be changed, and that is said.
    """
    looking = offered != TABS
    tabs = "".join(
        f'<button type="button" role="tab" id="palate-tab-{name}" data-tab="{name}" '
        f'aria-controls="palate-page-{name}" aria-selected="false" aria-keyshortcuts="{number}">'
        f"{name.capitalize()}<kbd>{number}</kbd></button>"
        for number, name in enumerate(offered, start=1)
    )
    return (
        f'<header class="pl-head" data-person="{escape(person)}" data-given="{int(given)}" '
        f'{"data-looking " if looking else ""}data-tabs="{" ".join(offered)}">'
        f'<span class="pl-mark"><a class="pl-brand" href="#{offered[0]}">Palate<i>.</i></a>'
        f"{ONLY if looking else ''}</span>"
        f'<nav class="pl-tabs" role="tablist" aria-label="Palate">{tabs}</nav>'
        '<div class="pl-who"><span class="pl-count" id="palate-count" title="answers so far"></span>'
        f'<label><span class="pl-hidden">{"Whose taste?" if looking else "Who is choosing?"}</span>'
        f'<select id="palate-person"><option>{escape(person)}</option></select></label>'
        '<button type="button" class="pl-round" id="palate-theme" aria-label="Dark or light" title="Dark or light">'
        '<svg viewBox="0 0 20 20" aria-hidden="true"><circle cx="10" cy="10" r="7"/><path d="M10 3a7 7 0 0 1 0 14z"/>'
        '</svg></button></div></header><div class="pl-notes" id="palate-notes" role="status" aria-live="polite"></div>'
    )
