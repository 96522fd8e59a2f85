"""The page: its head, its three tabs, and whose answers they are."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import gradio as gr

from ...adapters.errors import ComparisonError
from .compare_tab import CompareTab
from .events import QUIET, session_of, shown
from .generate_tab import GenerateTab
from .learned_tab import LearnedTab
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
        with gr.Row(elem_id="palate-head"):
            gr.HTML('<p class="pl-mark-text">Palate<i>.</i></p>', elem_id="palate-mark", js_on_load=None)
            person = gr.Dropdown(
                label="Who is choosing?",
                show_label=False,
                container=False,
                choices=_people(studio, studio.person),
                value=studio.person,
                allow_custom_value=True,
                elem_id="palate-person",
            )
            gr.Button("◐", elem_id="palate-theme", variant="secondary")
        with gr.Tabs(elem_id="palate-tabs"):
            with gr.Tab("Compare", id="compare"):
                compare = CompareTab(studio)
            with gr.Tab("Learned", id="learned") as tab:
                learned = LearnedTab(studio, tab)
            with gr.Tab("Generate", id="generate"):
                GenerateTab(studio, shelf)

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
        changed.then(shown(learned.show), None, learned.outputs, **QUIET)
        page.unload(leave)
    return page


def _people(studio: Studio, person: str) -> list[str]:
    """Return everybody in the store, and the person of this tab, who may not have answered yet."""
    return list(dict.fromkeys([person, *studio.store.people()]))
