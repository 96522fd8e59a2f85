"""The page: its head and its tabs.

A tab is a class that builds its components. Gradio holds the page; most tabs talk to routes of their own, so that a
click is one small request.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from .compare_tab import CompareTab
from .events import QUIET
from .gate import LOOKING
from .generate_tab import GenerateTab
from .head import TABS, head
from .people_tab import PeopleTab
from .share_tab import ShareTab
from .studio import Studio
from .taste_tab import TasteTab
from .train_tab import TrainTab

__all__ = ["build"]


def build(studio: Studio, read_only: bool = False) -> gr.Blocks:
    """Return the page of the panel.

    Args:
        studio: What it works on.
        read_only: Only the tabs for looking can be opened.
    """
    makers: dict[str, Any] = {
        "compare": CompareTab,
        "taste": TasteTab,
        "generate": lambda: GenerateTab(studio),
        "train": TrainTab,
        "share": ShareTab,
        "people": PeopleTab,
    }
    with gr.Blocks(title="Palate", analytics_enabled=False, fill_width=True) as page:
        gr.HTML(
            head(studio.person, studio.person_given, LOOKING if read_only else TABS),
            elem_id="palate-head",
            js_on_load=None,
            apply_default_css=False,
        )
        for name in TABS:
            with gr.Column(elem_id=f"palate-page-{name}", elem_classes="pl-page"):
                makers[name]()
        who = gr.Textbox(visible="hidden", elem_id="palate-who")

        def arrive(key: str, request: gr.Request) -> None:
            studio.arrive(str(request.session_hash), f"tab:{key}")

        def leave(request: gr.Request) -> None:
            studio.leave(str(request.session_hash))

        page.load(arrive, [who], None, js="() => window.palate.tab", **QUIET)
        page.unload(leave)
    return page
