"""The tab "Share": your taste as a file, tastes of others, and an embedding for other tools.

What happens on it is in share.js, which talks to `share_routes`.
"""

from __future__ import annotations

import gradio as gr

from .share_view import share_page

__all__ = ["ShareTab"]


class ShareTab:
    """The page of the tab."""

    def __init__(self) -> None:
        gr.HTML(share_page(), elem_id="palate-share", js_on_load=None)
