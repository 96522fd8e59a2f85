"""The tab "People": everybody who answered here. What happens on it is in people.js, which talks to `people_routes`."""

from __future__ import annotations

import gradio as gr

from .people_view import people_page

__all__ = ["PeopleTab"]


class PeopleTab:
    """The page of the tab."""

    def __init__(self) -> None:
        gr.HTML(people_page(), elem_id="palate-people", js_on_load=None, apply_default_css=False)
