"""The text side of a diffusers pipeline, whoever loaded it; `steer` is all of it in one call.

Shapes: C chunks of 77 tokens, H width of the text encoder (both together for SDXL), D joint width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..encoders import ImageTextEncoder, load_encoder
from ..errors import SteeringError
from .conditioner import TextConditioner
from .conditioning import Conditioning, prompt_arguments
from .descent import Cancelled, OnStep
from .matching import Tastes, encoders_by_tower
from .pipelines import prompt_towers
from .placement import named_when_out_of_memory
from .settings import SteeringSettings

__all__ = ["Encoders", "listed", "steer", "steered_pair", "text_side"]

Encoder = ImageTextEncoder | str | Path
Encoders = Encoder | Sequence[Encoder]


def steer(
    pipeline: Any,
    prompt: str,
    taste: Tastes,
    strength: float = 1.0,
    negative_prompt: str = "",
    encoder: Encoders | None = None,
    settings: SteeringSettings | None = None,
) -> dict[str, Tensor]:
    """What a diffusers pipeline takes instead of a prompt, moved along a taste: `pipe(**steer(pipe, prompt, taste))`.

    Args:
        pipeline: Any of diffusers' for SD 1.x, 2.x or XL, with its text encoders on the device where they work.
        prompt: Of any length; brackets and weights such as (word:1.2) are plain text.
        taste: From `load_taste`, which carries its text side, or from `fit_taste`; for SDXL also one for each tower.
        strength: 0 to 2; 0 gives diffusers' own bits for a prompt of up to 75 tokens.
        negative_prompt: Never moved.
        encoder: The CLIP that the taste was learned with, where the taste doesn't carry its text side.
        settings: How to steer; `strength` replaces theirs.

    Returns:
        "prompt_embeds" and "negative_prompt_embeds", both (1, 77·C, H); for SDXL also "pooled_prompt_embeds" and
        "negative_pooled_prompt_embeds", both (1, D). In the dtype of the text encoders and on their device.

    Raises:
        EncoderMismatchError: the taste was learned with another encoder.
        OutOfMemoryError: there is no room for it.
        SteeringError: the pipeline has no text encoder like Stable Diffusion's, or the settings are wrong.
    """
    if getattr(pipeline, "text_encoder", None) is None or getattr(pipeline, "tokenizer", None) is None:
        raise SteeringError(
            f"Cannot steer {type(pipeline).__name__}: found no text encoder with its tokenizer; expected a diffusers "
            "pipeline of Stable Diffusion 1.x, 2.x or XL with its text side loaded."
        )
    device = torch.device(getattr(pipeline, "_execution_device", "cpu"))
    text = text_side(pipeline, encoder, device, device)
    chosen = replace(settings or SteeringSettings(), strength=strength).settled(len(text.towers))
    return prompt_arguments(*steered_pair(text, prompt, negative_prompt, taste, chosen))


def text_side(
    pipeline: Any, encoder: Encoders | None, home: torch.device, device: torch.device | None
) -> TextConditioner:
    """The text towers of a pipeline with the CLIPs that belong to them.

    Args:
        pipeline: diffusers', loaded.
        encoder: One CLIP or several, loaded or what `load_encoder` takes; None: only tastes from files steer.
        home: Where a CLIP that is loaded here goes.
        device: Where text encoders go while they work; None leaves them where they are.

    Raises:
        EncoderMismatchError: a CLIP is that of none of the towers.
    """
    towers = prompt_towers(pipeline)
    encoders = [one if isinstance(one, ImageTextEncoder) else load_encoder(one, home) for one in listed(encoder)]
    by_tower = encoders_by_tower(encoders, towers)
    for tower in towers:
        tower.encoder = by_tower.get(tower.name)
    zeros = bool(pipeline.config.get("force_zeros_for_empty_prompt", False))
    return TextConditioner(towers, zero_negative=zeros, device=device)


def steered_pair(
    text: TextConditioner,
    prompt: str,
    negative_prompt: str,
    tastes: Tastes | None,
    settings: SteeringSettings,
    on_step: OnStep | None = None,
    cancelled: Cancelled | None = None,
) -> tuple[Conditioning, Conditioning]:
    """The prompt, plain or steered, and the negative prompt, both as long: guidance wants that.

    Args:
        text: The model's text side.
        prompt: Is moved along `tastes`; None leaves it plain. negative_prompt: Never is.
        settings, on_step, cancelled: As `TextConditioner.steered` takes them.

    Raises:
        As `TextConditioner.steered`, and OutOfMemoryError.
    """
    chunks = max(text.chunks(prompt), text.chunks(negative_prompt))
    if tastes is None:
        wanted = text.plain(prompt, chunks)
    else:
        work = partial(text.steered, prompt, tastes, settings, on_step, cancelled)
        advice = "Choose the method 'token_input', which takes much less."
        wanted, _ = named_when_out_of_memory("steer", advice, work)
        if missing := chunks - text.chunks(prompt):
            wanted = wanted.followed_by(text.plain("", missing))
    return wanted, text.negative(negative_prompt, chunks)


def listed(given: Any) -> list[Any]:
    """One or several as a list; None is none."""
    if given is None:
        return []
    return list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]
