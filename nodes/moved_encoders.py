"""Whose say moves which of a CLIP's text encoders, and what to connect where none fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..adapters.encoders import ImageTextEncoder
from ..adapters.errors import EncoderMismatchError, SteeringError
from ..adapters.steering import SteeringSettings
from ..adapters.taste import Taste
from .host_tokens import width_of

__all__ = ["Steering", "moved_encoders"]

# What people have to connect for a text encoder of this width.
_FITTING = {
    768: "OpenAI's CLIP ViT-L/14 (with both towers, as model.safetensors of openai/clip-vit-large-patch14)",
    1024: "a full OpenCLIP ViT-H/14 (laion2b_s32b_b79k, with both towers)",
    1280: "OpenCLIP ViT-bigG/14 (laion2b_s39b_b160k; the full file, or its image tower with projection)",
}


@dataclass(frozen=True)
class Steering:
    """Whose say, and how much.

    Attributes:
        tastes: Each with the encoder that it was learned with; one for each text encoder at most.
        settings: How, with the strength.
    """

    tastes: Sequence[tuple[Taste, ImageTextEncoder]]
    settings: SteeringSettings


def moved_encoders(parts: Mapping[str, Any], steering: Steering) -> dict[str, tuple[Taste, ImageTextEncoder]]:
    """Return tastes by the text encoder that each one moves: the one that its encoder's text side is as wide as.

    Args:
        parts: A CLIP's text encoders by their names, as `text_parts` gives them.
        steering: Whose say.

    Raises:
        EncoderMismatchError: an encoder belongs to none of the text encoders; the message names those that would.
        SteeringError: two tastes for one text encoder, or none for the one that the method moves.
    """
    widths = {name: width_of(part) for name, part in parts.items()}
    found: dict[str, tuple[Taste, ImageTextEncoder]] = {}
    for taste, encoder in steering.tastes:
        side = encoder.text_projection
        width = encoder.dim if side is None else int(side.shape[1])
        name = next((name for name, wide in widths.items() if wide == width), None)
        if name is None:
            raise _misfit(encoder, width, widths)
        if name in found:
            raise SteeringError(
                f"Cannot steer {name} by two tastes at once: found two of encoders that are {width} wide; expected one "
                "for each text encoder. Join them with Blend Tastes."
            )
        found[name] = taste, encoder
    if steering.settings.method == "pooled":
        return _pooled_only(found)
    return found


def _pooled_only(
    found: Mapping[str, tuple[Taste, ImageTextEncoder]],
) -> dict[str, tuple[Taste, ImageTextEncoder]]:
    if "clip_g" not in found:
        raise SteeringError(
            f"Cannot steer by 'pooled': found a taste for {', '.join(found)}; expected SDXL and a taste for clip_g, "
            f"whose pooled vector its denoiser takes: learned with {_FITTING[1280]}. Choose the method 'auto'."
        )
    return {"clip_g": found["clip_g"]}


def _misfit(encoder: ImageTextEncoder, width: int, widths: Mapping[str, int]) -> EncoderMismatchError:
    wanted = " or ".join(
        f"for {name}, which is {wide} wide, {_FITTING.get(wide, 'the encoder that came with it')}"
        for name, wide in widths.items()
    )
    return EncoderMismatchError(
        f"Cannot steer this CLIP with {encoder.name}: its text side is {width} wide; expected, {wanted}. Put that file "
        "into models/clip_vision or models/text_encoders, choose it in Load Encoder, and fit the taste with it."
    )
