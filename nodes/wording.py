"""The node that says a taste in the prompt."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from ..adapters.encoders import ImageTextEncoder
from ..adapters.playground import words_known_by
from ..adapters.taste import MOST_WORDS, prompt_in_words
from ..adapters.taste import Taste as LearnedTaste
from .sockets import CATEGORY, encoder_input, schema, taste_input


class PalateAddLikedWords(io.ComfyNode):
    """Add to a prompt the words that a taste likes."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="PalateAddLikedWords",
            display_name="Add Liked Words",
            category=CATEGORY,
            search_aliases=["prompt by taste", "personalize prompt", "magic prompt", "prompt expansion", "style words"],
            description="Add to a prompt the words that a taste likes best, for any model that takes text. What the "
            "prompt says stays; nothing is added that would be a mere guess.",
            inputs=[
                io.String.Input("text", multiline=True, dynamic_prompts=True, tooltip="The prompt, of any length."),
                taste_input(),
                encoder_input(),
                io.Int.Input(
                    "words",
                    default=2,
                    min=0,
                    max=MOST_WORDS,
                    tooltip="How many to add at most, each of another kind: a style, a colour, a light, a mood, a "
                    "composition. 0 passes the prompt on as it is.",
                ),
                io.Int.Input(
                    "avoid",
                    optional=True,
                    default=0,
                    min=0,
                    max=MOST_WORDS,
                    tooltip="How many disliked words to give for the negative prompt at most.",
                ),
            ],
            outputs=[
                io.String.Output(display_name="prompt", tooltip="The text and the words, with commas between."),
                io.String.Output(display_name="negative", tooltip="Disliked words, with commas between."),
            ],
        )

    @classmethod
    def execute(
        cls, text: str, taste: LearnedTaste, encoder: ImageTextEncoder, words: int, avoid: int = 0
    ) -> io.NodeOutput:
        found = prompt_in_words(text, taste, encoder, words_known_by(encoder.name), words, avoid)
        return io.NodeOutput(found.prompt, found.negative)
