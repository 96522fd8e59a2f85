"""The tab "Taste": what was learned, and every answer. taste.js fills it, and talks to `taste_routes`."""

from __future__ import annotations

import gradio as gr

from .taste_view import taste_page

__all__ = ["TasteTab"]


class TasteTab:
    """The page of the tab."""

    def __init__(self) -> None:
        gr.HTML(taste_page(), elem_id="palate-taste", js_on_load=None, apply_default_css=False)
