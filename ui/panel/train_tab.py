"""The tab "Train": from answers to a LoRA. train.js fills it, and talks to `train_routes`."""

from __future__ import annotations

import gradio as gr

from .train_view import train_page

__all__ = ["TrainTab"]


class TrainTab:
    """The page of the tab."""

    def __init__(self) -> None:
        gr.HTML(train_page(), elem_id="palate-train", js_on_load=None, apply_default_css=False)
