"""Nodes that learn a taste, save it and load it."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from comfy_api.v0_0_2 import io

from ..adapters.encoders import ImageTextEncoder
from ..adapters.errors import EncoderError, NotEnoughAnswersError
from ..adapters.files import load_taste, save_taste
from ..adapters.playground import words_known_by
from ..adapters.taste import Taste as LearnedTaste
from ..adapters.taste import fit_taste, keep_words
from ..adapters.taste.person import TEACHING
from .learning import NONE, STOP, WAIT, answers_mark, blocked, without_answers_input
from .saved import TASTE_FILES
from .sockets import CATEGORY, Encoder, Taste, advanced, encoder_input, open_store, person_input, schema, taste_input
from .vectors import encode_new_images

_OPEN = 12  # the newest open questions, whose images are encoded as well


class PalateFitTaste(io.ComfyNode):
    """Learn a person's taste from their answers."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="PalateFitTaste",
            display_name="Fit Taste",
            category=CATEGORY,
            search_aliases=["preference model", "bradley-terry", "learn preference", "train taste"],
            description="Learn a person's taste from all of their answers so far (Bradley-Terry). Takes milliseconds "
            "and runs again by itself when there are new answers.",
            inputs=[
                person_input(),
                encoder_input(),
                advanced(
                    io.Float,
                    "prior_variance",
                    default=0.0,
                    min=0.0,
                    max=1000.0,
                    step=0.01,
                    tooltip="How strong a taste is expected, up to 1000; smaller is more cautious with few answers. "
                    "0 lets the answers decide.",
                ),
                without_answers_input("the taste", "a taste that prefers nothing, for Choose Pair"),
                advanced(
                    io.Float,
                    "half_life",
                    default=0.0,
                    min=0.0,
                    max=36500.0,
                    step=1.0,
                    tooltip="For a taste that changes: after so many days an answer counts half. 0 counts all alike.",
                ),
            ],
            outputs=[
                Taste.Output(display_name="taste", tooltip="For Adapt Conditioning, Rank Images and Save Taste."),
                io.Int.Output(display_name="answers", tooltip="How many answers it was learned from."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, person: str | None = None, **_: Any) -> tuple[tuple[str, int], ...]:
        return answers_mark(person)

    @classmethod
    def execute(
        cls,
        person: str,
        encoder: ImageTextEncoder,
        prior_variance: float = 0.0,
        without_answers: str = STOP,
        half_life: float = 0.0,
    ) -> io.NodeOutput:
        store = open_store()
        answers = [c for c in store.comparisons(person) if c.outcome in TEACHING]
        # Of open questions, too: how much each would teach is how the sidebar puts them in order.
        encode_new_images(store, encoder, [*answers, *store.asked.newest(person, _OPEN)])
        try:
            with torch.inference_mode(False):
                taste = fit_taste(
                    store, encoder, person, prior_variance=prior_variance or None, half_life=half_life or None
                )
                with contextlib.suppress(EncoderError):  # one that can't read words is no reason not to learn
                    keep_words(store, encoder, words_known_by(encoder.name))  # the sidebar says a taste in them
        except NotEnoughAnswersError:
            if without_answers == STOP:
                raise
            return io.NodeOutput(_unlearned(encoder, person), 0) if without_answers == NONE else blocked(2)
        if without_answers == WAIT and not bool(taste.weights.any()):  # nothing but ties so far
            return blocked(2)
        return io.NodeOutput(taste, taste.answers)


class PalateSaveTaste(io.ComfyNode):
    """Save a taste as a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="PalateSaveTaste",
            display_name="Save Taste",
            category=CATEGORY,
            search_aliases=["export taste", "save preference"],
            description="Save a taste as a small file that others can load: numbers only, no images and no prompts.",
            is_output_node=True,
            inputs=[taste_input(), TASTE_FILES.name_input("my taste")],
            outputs=[
                Taste.Output(display_name="taste", tooltip="The same taste, to go on with."),
                TASTE_FILES.file_output(),
            ],
        )

    @classmethod
    def execute(cls, taste: LearnedTaste, name: str) -> io.NodeOutput:
        path = save_taste(taste, TASTE_FILES.path_to_save(name))
        return io.NodeOutput(taste, path.name, ui={"text": [f"Saved as {path.name}"]})


class PalateLoadTaste(io.ComfyNode):
    """Load a taste from a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="PalateLoadTaste",
            display_name="Load Taste",
            category=CATEGORY,
            search_aliases=["import taste", "load preference"],
            description="Load a taste that was saved here or by somebody else. With an encoder connected, a taste of "
            "another encoder is refused at once.",
            inputs=[
                TASTE_FILES.file_input(),
                Encoder.Input(
                    "encoder", optional=True, tooltip="The encoder it will be used with; checked when connected."
                ),
            ],
            outputs=[Taste.Output(display_name="taste", tooltip="For Adapt Conditioning and Rank Images.")],
        )

    @classmethod
    def fingerprint_inputs(cls, file: str, **_: Any) -> tuple[int, int]:
        return TASTE_FILES.mark(file)

    @classmethod
    def execute(cls, file: str, encoder: ImageTextEncoder | None = None) -> io.NodeOutput:
        with torch.inference_mode(False):
            return io.NodeOutput(load_taste(TASTE_FILES.path(file), encoder))


def _unlearned(encoder: ImageTextEncoder, person: str) -> LearnedTaste:
    """A taste that prefers nothing, and knows that it knows nothing."""
    with torch.inference_mode(False):
        return LearnedTaste(torch.zeros(encoder.dim), encoder.identity, encoder.name, person, answers=0)
