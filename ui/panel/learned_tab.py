"""The tab "Learned": how well the taste is known, what it likes, and the taste as a file."""

from __future__ import annotations

from typing import Any

import gradio as gr

from ...adapters.errors import NotEnoughAnswersError
from . import views
from .events import QUIET, session_of, shown
from .studio import Studio

__all__ = ["LearnedTab"]

BUSY = {**QUIET, "show_progress": "minimal"}  # pictures that no encoder saw yet take their time


class LearnedTab:
    """The components of the tab and what happens when they are used."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        page = gr.HTML(elem_id="palate-learned", js_on_load=None)
        with gr.Row(elem_id="palate-files"):
            save = gr.Button("Save my taste as a file", variant="secondary", elem_id="palate-save")
            load = gr.UploadButton(
                "Use a taste from a file", file_types=[".safetensors"], variant="secondary", elem_id="palate-load"
            )
            own = gr.Button("Use my own answers again", visible=False, elem_id="palate-own")
        note = gr.HTML(elem_id="palate-file-note", js_on_load=None)
        file = gr.File(label="Your taste", visible=False, interactive=False, elem_id="palate-file")

        self.outputs = [page]
        save.click(shown(self._save), None, [file, note], **BUSY)
        load.upload(shown(self._load), [load], [note, own], **BUSY)
        own.click(shown(self._own), None, [note, own], **QUIET)

    def refresh(self, request: gr.Request) -> str:
        """Return the page about the person of this tab."""
        session = session_of(self._studio, request)
        try:
            return views.learned(self._studio.learned(session.person))
        except NotEnoughAnswersError as error:
            return views.message("Nothing learned yet", str(error))

    def _save(self, request: gr.Request) -> tuple[Any, Any]:
        path = self._studio.save_taste(session_of(self._studio, request).person)
        return gr.update(value=str(path), visible=True), views.note(f"Saved as {path}")

    def _load(self, uploaded: str, request: gr.Request) -> tuple[Any, Any]:
        session = session_of(self._studio, request)
        taste = self._studio.load_taste(uploaded)
        session.loaded = taste
        who = taste.person or "somebody"
        return (
            views.note(f"Generate now uses the taste of {who} from the file, learned from {taste.answers} answers."),
            gr.update(visible=True),
        )

    def _own(self, request: gr.Request) -> tuple[Any, Any]:
        session_of(self._studio, request).loaded = None
        return views.note("Generate now uses your own answers."), gr.update(visible=False)
