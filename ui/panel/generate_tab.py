"""The tab "Generate": one prompt, the same seeds, without and with your taste."""

from __future__ import annotations

import queue
import random
import threading
from collections.abc import Iterator
from typing import Any

import gradio as gr

from ...adapters.errors import CancelledError, NotEnoughAnswersError
from ...adapters.steering import METHODS
from . import views
from .events import QUIET, in_words, session_of, shown
from .shelf import Shelf
from .studio import Rendering, Studio

__all__ = ["GenerateTab"]

LARGEST_SEED = 2**32 - 1
WAYS = {"encoder": "All of the prompt", "token_input": "Its words", "eos_token": "Its end only"}


class GenerateTab:
    """The components of the tab and what happens when they are used."""

    def __init__(self, studio: Studio, shelf: Shelf) -> None:
        self._studio, self._shelf = studio, shelf
        with gr.Row(elem_id="palate-ask"):
            prompt = gr.Textbox(
                label="Prompt", value=studio.example_prompts()[0], scale=4, max_lines=4, elem_id="palate-wish"
            )
            seed = gr.Number(
                label="First seed", value=1, precision=0, minimum=0, maximum=LARGEST_SEED, min_width=110, scale=1
            )
        with gr.Row(elem_id="palate-how"):
            strength = gr.Slider(
                0, 2, value=1, step=0.05, label="Strength of your taste", info="0: none, 1: as learned", scale=3
            )
            method = gr.Dropdown(
                [(WAYS.get(name, name), name) for name in METHODS],
                value=METHODS[0],
                label="What it moves",
                info="from most to least",
                scale=1,
                min_width=150,
                elem_id="palate-method",
            )
            number = gr.Slider(1, 4, value=2, step=1, label="Pictures", info="of each kind", scale=1, min_width=140)
        with gr.Row(elem_id="palate-go"):
            go = gr.Button("Generate", variant="primary", elem_id="palate-generate", scale=0, min_width=150)
            stop = gr.Button("Stop", variant="secondary", elem_id="palate-stop", scale=0, min_width=110, visible=False)
            other = gr.Button("Other seeds", variant="secondary", elem_id="palate-reseed", scale=0, min_width=150)
        result = gr.HTML(elem_id="palate-result", js_on_load=None)
        wishes, outputs = [prompt, seed, number, strength, method], [result, stop]
        go.click(shown(self._go), wishes, outputs, **QUIET)
        prompt.submit(shown(self._go), wishes, outputs, **QUIET)
        other.click(lambda: random.randrange(10_000), None, [seed], **QUIET).then(
            shown(self._go), wishes, outputs, **QUIET
        )
        stop.click(self._stop, None, None, **QUIET)

    def _go(
        self, prompt: str, seed: float | None, number: float, strength: float, method: str, request: gr.Request
    ) -> Iterator[tuple[Any, Any]]:
        session = session_of(self._studio, request)
        if not prompt.strip():
            yield views.message("What shall it be?", "Type a prompt first."), gr.update(visible=False)
            return
        first = int(seed or 0)
        seeds = tuple(first + i for i in range(int(number)))
        cancel = session.start_generating()
        yield views.painting(0.0, "Getting your taste…"), gr.update(visible=True)
        try:
            taste = session.loaded or self._studio.taste(session.person)
        except NotEnoughAnswersError as error:
            yield views.message("Not enough answers yet", str(error)), gr.update(visible=False)
            return
        except Exception as error:
            yield views.message("That did not work", in_words(error)), gr.update(visible=False)
            return

        told: queue.SimpleQueue[float | Rendering | Exception] = queue.SimpleQueue()

        def work() -> None:
            try:
                told.put(
                    self._studio.generate(
                        taste, prompt.strip(), seeds, float(strength), told.put, cancel.is_set, method
                    )
                )
            except Exception as error:
                told.put(error)

        threading.Thread(target=work, name="palate-generate", daemon=True).start()
        news: float | Rendering | Exception = 0.0
        try:
            while isinstance(news, float):
                text = "Stopping…" if cancel.is_set() else f"Painting {2 * len(seeds)} pictures…"
                yield views.painting(news, text), gr.skip()
                news = told.get()
                while isinstance(news, float) and not told.empty():  # only the latest step is worth showing
                    news = told.get()
        finally:
            cancel.set()  # the tab was closed while it was painting
        yield self._outcome(news), gr.update(visible=False)

    def _outcome(self, news: Rendering | Exception) -> str:
        if isinstance(news, CancelledError):
            return views.message("Stopped", "Nothing was kept. Generate starts again.")
        if isinstance(news, Exception):
            return views.message("That did not work", in_words(news))
        plain = [self._shelf.put(image) for image in news.plain]
        yours = [self._shelf.put(image) for image in news.yours]
        return views.generated(news.prompt, news.seeds, plain, yours, news.strength, news.moved)

    def _stop(self, request: gr.Request) -> None:
        session_of(self._studio, request).stop_generating()
