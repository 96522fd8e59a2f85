"""The tab "Compare": two pictures, one question. compare.js fills it, and talks to `compare_routes`."""

from __future__ import annotations

import gradio as gr

from .compare_view import compare_page

__all__ = ["CompareTab"]


class CompareTab:
    """The page of the tab."""

    def __init__(self) -> None:
        gr.HTML(compare_page(), elem_id="palate-compare", js_on_load=None, apply_default_css=False)
