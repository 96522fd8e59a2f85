"""The tab "Generate": a prompt, tastes with weights, a strength that flips between painted pictures, the gallery.

What happens on it is in generate.js, easel.js, gallery.js and viewer.js, which talk to `generate_routes`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradio as gr

from .generate_view import generate_page

if TYPE_CHECKING:
    from .studio import Studio

__all__ = ["GenerateTab"]


class GenerateTab:
    """The page of the tab.

    Args:
        studio: Gives a first prompt.
    """

    def __init__(self, studio: Studio) -> None:
        gr.HTML(generate_page(studio.example_prompts()[0]), elem_id="palate-generate", js_on_load=None)
