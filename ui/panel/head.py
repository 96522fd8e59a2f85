"""The head of the page: mark, tabs, light or dark."""

from __future__ import annotations

__all__ = ["TABS", "head"]

TABS = ("compare", "taste", "generate", "share")


def head() -> str:
    """Return the head; `panel.js` makes the buttons work."""
    tabs = "".join(
        f'<button type="button" role="tab" id="palate-tab-{name}" data-tab="{name}" '
        f'aria-controls="palate-page-{name}" aria-selected="false" aria-keyshortcuts="{number}">'
        f"{name.capitalize()}<kbd>{number}</kbd></button>"
        for number, name in enumerate(TABS, start=1)
    )
    return (
        '<header class="pl-head"><a class="pl-brand" href="#compare">Palate<i>.</i></a>'
        f'<nav class="pl-tabs" role="tablist" aria-label="Palate">{tabs}</nav>'
        '<button type="button" class="pl-round" id="palate-theme" aria-label="Dark or light" title="Dark or light">'
        '<svg viewBox="0 0 20 20" aria-hidden="true"><circle cx="10" cy="10" r="7"/><path d="M10 3a7 7 0 0 1 0 14z"/>'
        "</svg></button></header>"
    )
