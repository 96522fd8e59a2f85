"""The tab "Compare": two pictures, one question."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from . import views
from .events import QUIET, in_words, session_of, shown
from .session import Session
from .sources import FolderSource
from .studio import Studio

__all__ = ["CompareTab"]

PROMPTS, FOLDER = "Make pictures from prompts", "A folder of your own pictures"
BUTTONS = (("left", "Left"), ("tie", "Tie"), ("both_bad", "Both bad"), ("right", "Right"), ("skip", "Skip"))
PATIENCE = 900.0  # s that a page waits for one pair before it says so


class CompareTab:
    """The components of the tab and what happens when they are used.

    Attributes:
        outputs: What `next_pair` writes to: the stage and the line under the buttons.
    """

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self._stage = gr.HTML(views.waiting("One moment…"), elem_id="palate-stage", js_on_load=None)
        with gr.Row(elem_id="palate-answers"):
            buttons = {name: gr.Button(text, elem_id=f"palate-{name}") for name, text in BUTTONS}
            undo = gr.Button("Undo", elem_id="palate-undo")
        self._status = gr.HTML(elem_id="palate-status", js_on_load=None)
        with gr.Accordion("What to compare", open=False, elem_id="palate-source"):
            kind = gr.Radio([PROMPTS, FOLDER], value=PROMPTS, show_label=False, container=False, elem_id="palate-kind")
            with gr.Row(elem_classes="pl-field"):
                prompt = gr.Textbox(
                    label="Prompt",
                    placeholder="one prompt of your own; empty: many examples",
                    elem_id="palate-prompt",
                    max_lines=3,
                )
                folder = gr.Textbox(
                    label="Folder on this computer",
                    placeholder="/home/you/Pictures",
                    visible=False,
                    elem_id="palate-folder",
                )
                use = gr.Button("Compare these", variant="primary", elem_id="palate-use")
        self.outputs = [self._stage, self._status]

        ticket = gr.Textbox(visible="hidden", elem_id="palate-ticket")
        for outcome, button in buttons.items():
            button.click(
                shown(self._answering(outcome)),
                [ticket],
                self.outputs,
                js=f"() => window.palateAnswer({json.dumps(outcome)})",
                trigger_mode="multiple",
                **QUIET,
            )
        undo.click(shown(self._undo), None, self.outputs, **QUIET)
        kind.input(self._choose_kind, [kind], [prompt, folder], **QUIET)
        for event in (use.click, prompt.submit, folder.submit):
            event(shown(self._use), [kind, prompt, folder], self.outputs, **QUIET)

    def next_pair(self, session: Session) -> Iterator[tuple[Any, Any]]:
        """Yield the stage and the line below until the next pair is on the screen."""
        try:
            pair, told = session.show(timeout=0.1), ""
            until = time.monotonic() + PATIENCE
            while pair is None and session.source is not None and time.monotonic() < until:
                if self._studio.closing.is_set() or session.closed:
                    return
                if told != session.source.doing:
                    told = session.source.doing
                    yield views.waiting(told), self._line(session)
                pair = session.show(timeout=0.4)
        except Exception as error:
            yield views.message("No pictures to compare", in_words(error)), self._line(session)
            return
        if pair is None:
            yield views.message("Still painting", "This takes unusually long. Reload the page to go on."), gr.skip()
            return
        yield views.stage(pair, session.upcoming), self._line(session)

    def _line(self, session: Session) -> str:
        source = session.source
        broken = source.broken if isinstance(source, FolderSource) else 0
        return views.compare_status(session.answers(), broken)

    def _answering(self, outcome: str) -> Callable[..., Iterator[Any]]:
        def answer(ticket: str, request: gr.Request) -> Iterator[Any]:
            session = session_of(self._studio, request)
            given = json.loads(ticket or "{}")
            try:
                stored = session.answer(str(given.get("ticket")), outcome, given.get("seconds"))
            except Exception as error:  # whatever it was, the pair stays and can be answered again
                gr.Warning(f"Your answer was not stored. {in_words(error)}", title="Not stored")
                if session.current is None:
                    yield gr.skip(), gr.skip()
                else:
                    yield views.stage(session.current, session.upcoming), self._line(session)
                return
            if stored is None:  # a second click on the same pair
                yield gr.skip(), gr.skip()
                return
            yield from self.next_pair(session)

        return answer

    def _undo(self, request: gr.Request) -> Iterator[Any]:
        session = session_of(self._studio, request)
        if session.undo() is None:
            gr.Info("There is no answer to take back.", title="Undo")
            yield gr.skip(), gr.skip()
            return
        yield from self.next_pair(session)

    def _choose_kind(self, kind: str) -> tuple[Any, Any]:
        return gr.update(visible=kind == PROMPTS), gr.update(visible=kind == FOLDER)

    def _use(self, kind: str, prompt: str, folder: str, request: gr.Request) -> Iterator[Any]:
        session = session_of(self._studio, request)
        if kind == FOLDER:
            found = session.use_folder(folder)
            gr.Info(f"Found {found.count} pictures.", title="Your pictures")
        else:
            session.use_prompts(prompt)
        yield from self.next_pair(session)
