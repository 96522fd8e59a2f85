"""The page: its head, its tabs, and whose answers they are.

A tab is a class built as `Tab(studio, shelf)` or `Tab(studio)`. One that shows what may have changed since it was
built has `refresh(request)`, which returns new values for its `outputs`: it is called whenever the tab comes to the
front, and when the person changes while it is there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import gradio as gr

from ...adapters.errors import ComparisonError
from .compare_tab import CompareTab
from .events import QUIET, session_of, shown
from .generate_tab import GenerateTab
from .head import TABS, head
from .learned_tab import LearnedTab
from .share_tab import ShareTab
from .shelf import Shelf
from .studio import Studio

__all__ = ["build"]


def build(studio: Studio, shelf: Shelf) -> gr.Blocks:
    """Return the page of the panel.

    Args:
        studio: What it works on.
        shelf: Where generated pictures are put for the browser.
    """
    with gr.Blocks(title="Palate", analytics_enabled=False, fill_width=True) as page:
        remembered = gr.BrowserState("", storage_key="palate-person", secret="palate")
        gr.HTML(head(), elem_id="palate-head", js_on_load=None)
        person = gr.Dropdown(
            label="Who is choosing?",
            show_label=False,
            container=False,
            choices=_people(studio, studio.person),
            value=studio.person,
            allow_custom_value=True,
            elem_id="palate-person",
        )
        makers = {
            "compare": lambda: CompareTab(studio),
            "taste": lambda: LearnedTab(studio),
            "generate": lambda: GenerateTab(studio, shelf),
            "share": lambda: ShareTab(studio, shelf),
        }
        tabs: dict[str, Any] = {}
        for name in TABS:
            with gr.Column(elem_id=f"palate-page-{name}", elem_classes="pl-page"):
                tabs[name] = makers[name]()
        for name, tab in tabs.items():
            if hasattr(tab, "refresh"):
                front = gr.Button(visible="hidden", elem_id=f"palate-front-{name}")
                front.click(shown(tab.refresh), None, tab.outputs, trigger_mode="always_last", **QUIET)
        compare: CompareTab = tabs["compare"]

        def arrive(kept: str, request: gr.Request) -> Iterator[Any]:
            session = session_of(studio, request)
            if kept and not studio.person_given:
                with contextlib.suppress(ComparisonError):  # what a browser kept may be anything
                    session.use_person(kept)
            yield gr.update(value=session.person, choices=_people(studio, session.person)), gr.skip(), gr.skip()
            if session.source is None:
                session.use_prompts()
            for view in compare.next_pair(session):
                yield gr.skip(), *view

        def change_person(name: str | None, request: gr.Request) -> Iterator[Any]:
            session = session_of(studio, request)
            try:
                session.use_person((name or "").strip() or session.person)
            except ComparisonError as error:
                gr.Warning(str(error), title="Another name, please")
                yield gr.update(value=session.person), gr.skip(), gr.skip(), gr.skip()
                return
            kept = session.person
            yield gr.update(value=kept, choices=_people(studio, kept)), kept, gr.skip(), gr.skip()
            for view in compare.next_pair(session):
                yield gr.skip(), gr.skip(), *view

        def leave(request: gr.Request) -> None:
            studio.leave(str(request.session_hash))

        page.load(shown(arrive), [remembered], [person, *compare.outputs], **QUIET)
        changed = person.input(shown(change_person), [person], [person, remembered, *compare.outputs], **QUIET)
        changed.then(None, None, None, js="() => window.palate.refresh()", **QUIET)
        page.unload(leave)
    return page


def _people(studio: Studio, person: str) -> list[str]:
    """Return everybody in the store, and the person of this tab, who may not have answered yet."""
    return list(dict.fromkeys([person, *studio.store.people()]))
