"""Which encoder made a vector: a hash over the image tower's tensors, the same for every file layout."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from ..errors import EncoderError
from .facts import ClipFacts
from .layouts import canonical_state

__all__ = ["clip_identity"]


def clip_identity(state_dict: Mapping[str, Tensor], facts: ClipFacts | None = None) -> str:
    """Hash an image tower and its projection: sha256 over name, shape and fp16 values in canonical layout.

    The text tower stays out: vectors are images', and a clip_vision file without text makes the same ones as the full
    model. Values are rounded to fp16, so a half-precision file and its original agree. Settings that change the vectors
    without being tensors (activation, heads, picture normalisation) are added only where they differ from the standard
    for the shapes, so that standard models hash to their tensors alone.

    Args:
        state_dict: Tensors of any layout that `canonical_state` reads.
        facts: Settings; None means the standard.

    Returns:
        64 lower-case hexadecimal digits.

    Raises:
        EncoderError: no image tower, or NaN or infinity among the weights.
    """
    state = canonical_state(state_dict)
    names = sorted(n for n in state if n.startswith(("vision_model.", "visual_projection.")))
    if not names:
        raise EncoderError(
            "Cannot name this encoder: found no image tower; expected one. Give a CLIP with both towers."
        )
    digest = hashlib.sha256()
    for name in names:
        values = state[name].detach().to("cpu", torch.float16).contiguous()
        if not bool(torch.isfinite(values).all()):
            raise EncoderError(
                f"Cannot use this encoder: {name} holds NaN or infinity; expected numbers. Get it again."
            )
        digest.update(f"{name} {tuple(values.shape)}\n".encode())
        digest.update(values.numpy().tobytes())
    digest.update((facts or ClipFacts()).unusual(state).encode())
    return digest.hexdigest()
