"""The nodes that move prompts along a taste."""

from __future__ import annotations

from typing import Any

from comfy_api.v0_0_2 import io

from ..adapters.encoders import ImageTextEncoder
from ..adapters.errors import SteeringError
from ..adapters.steering import AUTO, METHODS, SteeringSettings
from ..adapters.steering.objective import STEERING_OBJECTIVES
from ..adapters.taste import Taste as LearnedTaste
from .moved_encoders import Steering
from .sockets import CATEGORY, Encoder, Taste, advanced, encoder_input, schema, taste_input
from .steered_clip import encode_steered, steered_clip

_STRONGEST = 2.0
_DEFAULTS = SteeringSettings()


class PalateAdaptConditioning(io.ComfyNode):
    """Encode a prompt so that it leans towards a taste."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="PalateAdaptConditioning",
            display_name="Adapt Conditioning",
            category=CATEGORY,
            search_aliases=["steer prompt", "personalize prompt", "preference conditioning"],
            description="Encode a prompt as CLIP Text Encode does, moved along a taste. For the positive prompt only: "
            "the negative one stays with CLIP Text Encode.",
            inputs=[
                io.Clip.Input("clip", tooltip="The CLIP of an SD1.x, SD2.x or SDXL checkpoint, or of the playground."),
                io.String.Input(
                    "text",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="The prompt, of any length. Weights such as (word:1.2) work as usual.",
                ),
                *_steering_inputs("0 gives exactly what CLIP Text Encode gives."),
            ],
            outputs=[io.Conditioning.Output(tooltip="For the sampler's positive input.")],
        )

    @classmethod
    def execute(
        cls, clip: Any, text: str, taste: LearnedTaste, encoder: ImageTextEncoder, strength: float, **how: Any
    ) -> io.NodeOutput:
        steering = _steering(taste, encoder, strength=strength, **how)
        if strength == 0:
            return io.NodeOutput(clip.encode_from_tokens_scheduled(clip.tokenize(text)))
        return io.NodeOutput(encode_steered(clip, text, steering))


class PalateAdaptClip(io.ComfyNode):
    """A CLIP that moves whatever it encodes along a taste."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="PalateAdaptClip",
            display_name="Adapt CLIP",
            category=CATEGORY,
            search_aliases=["steer clip", "personalize clip", "preference clip"],
            description="A CLIP that moves every text along a taste when a later node encodes it. Connect it to the "
            "positive prompt's node, and the plain CLIP to the negative prompt's.",
            inputs=[
                io.Clip.Input("clip", tooltip="The CLIP of an SD1.x, SD2.x or SDXL checkpoint, or of the playground."),
                *_steering_inputs("0 passes the CLIP on as it is."),
            ],
            outputs=[io.Clip.Output(tooltip="For the node that encodes the positive prompt.")],
        )

    @classmethod
    def execute(
        cls, clip: Any, taste: LearnedTaste, encoder: ImageTextEncoder, strength: float, **how: Any
    ) -> io.NodeOutput:
        steering = _steering(taste, encoder, strength=strength, **how)
        return io.NodeOutput(clip if strength == 0 else steered_clip(clip, steering))


def _steering_inputs(off: str) -> list[Any]:
    """What both nodes ask for; `off` says what strength 0 does."""
    return [
        taste_input(),
        encoder_input(),
        *_movement_inputs(off),
        Taste.Input(
            "taste_2",
            optional=True,
            tooltip="For SDXL's other text encoder: the same person's taste, learned with encoder_2. Leave it off to "
            "move one text encoder only.",
        ),
        Encoder.Input(
            "encoder_2",
            optional=True,
            tooltip="The encoder of taste_2. SDXL's clip_l goes with CLIP ViT-L/14, clip_g with OpenCLIP ViT-bigG/14.",
        ),
    ]


def _movement_inputs(off: str) -> list[Any]:
    """How the prompt is moved: the fields of `SteeringSettings`."""
    return [
        io.Combo.Input(
            "method",
            options=[AUTO, *METHODS],
            default=_DEFAULTS.method,
            tooltip="What is moved, for this prompt. auto: encoder for SD1.x and SD2.x, token_input for SDXL. encoder: "
            "a copy of the text encoder's weights. token_input: the vectors that the words stand for; needs less "
            "memory. eos_token: the end token's state only; fast and weak. pooled: only the vector that SDXL takes "
            "beside the words; at once.",
        ),
        io.Float.Input(
            "strength",
            default=1.0,
            min=0.0,
            max=_STRONGEST,
            step=0.05,
            tooltip=f"How far to move, 0 to 2. 1 is as learned, more exaggerates; {off}",
        ),
        advanced(
            io.Int,
            "steps",
            default=_DEFAULTS.steps,
            min=1,
            max=50,
            tooltip="Gradient steps, 1 to 50; more follow the taste more closely and take longer. Off is strength 0.",
        ),
        advanced(
            io.Combo,
            "objective",
            options=list(STEERING_OBJECTIVES),
            default=_DEFAULTS.objective,
            tooltip="bradley_terry: towards what you chose and away from what you rejected. positive: towards "
            "what you chose only. direction: along the taste itself, as a taste from a file always does.",
        ),
        advanced(
            io.Float,
            "limit",
            default=_DEFAULTS.limit,
            min=1.0,
            max=180.0,
            step=1.0,
            tooltip="How far the prompt may turn at most, 1 to 180 degrees, whatever the strength; 180 is no limit. "
            "Strength 1 turns it by about 18.",
        ),
    ]


def _steering(
    taste: LearnedTaste,
    encoder: ImageTextEncoder,
    taste_2: LearnedTaste | None = None,
    encoder_2: ImageTextEncoder | None = None,
    **settings: Any,
) -> Steering:
    """What both nodes were given, with each taste checked against its encoder."""
    tastes = [(taste, encoder)]
    if taste_2 is not None and encoder_2 is not None:
        tastes.append((taste_2, encoder_2))
    elif taste_2 is not None or encoder_2 is not None:
        found, missing = ("taste_2", "encoder_2") if encoder_2 is None else ("encoder_2", "taste_2")
        raise SteeringError(
            f"Cannot steer: found {found} without {missing}; expected both or neither. Connect {missing}, or take "
            f"{found} off."
        )
    for one, its_encoder in tastes:
        its_encoder.require(one.encoder, "this taste", one.encoder_name)
    return Steering(tastes, SteeringSettings(**settings))
