"""The node that moves a prompt along a taste."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import comfy.utils
import torch
from comfy_api.v0_0_2 import io

from ..adapters.encoders import ImageTextEncoder
from ..adapters.steering import SteeringSettings, adapt_text_weights
from ..adapters.steering.objective import STEERING_OBJECTIVES
from ..adapters.steering.settings import METHODS
from ..adapters.taste import Taste as LearnedTaste
from .host_text import Encode, encode_steered
from .sockets import CATEGORY, encoder_input, taste_input

_STRONGEST = 2.0


class PalateAdaptConditioning(io.ComfyNode):
    """Encode a prompt so that it leans towards a taste."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PalateAdaptConditioning",
            display_name="Adapt Conditioning",
            category=CATEGORY,
            description="Encode a prompt as CLIP Text Encode does, moved along a taste. For the positive prompt only: "
            "the negative one stays with CLIP Text Encode.",
            inputs=[
                io.Clip.Input("clip", tooltip="The CLIP of an SD1.x or SD2.x checkpoint, or of the playground."),
                io.String.Input(
                    "text",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="The prompt, of any length. Weights such as (word:1.2) work as usual.",
                ),
                taste_input(),
                encoder_input(),
                io.Combo.Input(
                    "method",
                    options=list(METHODS),
                    default="encoder",
                    tooltip="encoder: a few gradient steps on a copy of the text encoder's weights, for this prompt.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=_STRONGEST,
                    step=0.05,
                    tooltip="How far to move, 0 to 2. 1 is as learned, more exaggerates; 0 gives exactly what CLIP "
                    "Text Encode gives.",
                ),
                io.Int.Input(
                    "steps",
                    optional=True,
                    default=5,
                    min=1,
                    max=50,
                    tooltip="Gradient steps, 1 to 50; more move further and take longer. Off is strength 0.",
                ),
                io.Combo.Input(
                    "objective",
                    optional=True,
                    options=list(STEERING_OBJECTIVES),
                    default="bradley_terry",
                    tooltip="bradley_terry: towards what you chose and away from what you rejected. positive: towards "
                    "what you chose only. direction: along the taste itself, as a taste from a file always does.",
                ),
            ],
            outputs=[io.Conditioning.Output(tooltip="For the sampler's positive input.")],
        )

    @classmethod
    def execute(
        cls,
        clip: Any,
        text: str,
        taste: LearnedTaste,
        encoder: ImageTextEncoder,
        method: str,
        strength: float,
        steps: int = 5,
        objective: str = "bradley_terry",
    ) -> io.NodeOutput:
        encoder.require(taste.encoder, "this taste", taste.encoder_name)
        if strength == 0:
            return io.NodeOutput(clip.encode_from_tokens_scheduled(clip.tokenize(text)))
        settings = SteeringSettings(method=method, objective=objective, steps=steps, strength=strength)
        progress = comfy.utils.ProgressBar(steps)

        def on_step(done: int, _: int) -> None:
            progress.update_absolute(done)
            comfy.model_management.throw_exception_if_processing_interrupted()

        def steer(text_model: torch.nn.Module, token_ids: torch.Tensor, encode: Encode) -> torch.Tensor:
            adapted = adapt_text_weights(
                text_model,
                token_ids,
                taste,
                encoder.text_projection,
                settings,
                encode=encode,
                logit_scale=encoder.logit_scale,
                on_step=on_step,
            )
            return adapted.tokens(strength)

        return io.NodeOutput(encode_steered(clip, text, steer))
