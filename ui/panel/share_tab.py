"""The tab "Share": your taste as a file, tastes of others, and an embedding for other tools.

What happens on it is in share.js, which talks to `share_routes`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr

from .share_view import share_page

if TYPE_CHECKING:
    from .studio import Studio

__all__ = ["ShareTab"]


class ShareTab:
    """The page of the tab.

    Args:
        studio: What the panel works on.
        shelf: Where generated pictures are put for the browser; Share shows none.
    """

    def __init__(self, studio: Studio, shelf: Any = None) -> None:
        gr.HTML(share_page(), elem_id="palate-share", js_on_load=None)
