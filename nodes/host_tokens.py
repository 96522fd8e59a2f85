"""ComfyUI's weighted tokens: chunks of (id, weight), where a textual inversion has its vector in the id's place.

Shapes: C chunks of T = 77 tokens, H width of the text model.
"""

from __future__ import annotations

import numbers
from typing import Any

import torch

__all__ = ["Chunks", "token_ids", "usable", "vectors_in", "width_of", "with_inputs"]

Chunks = list[list[tuple[Any, ...]]]


def width_of(part: Any) -> int:
    """How wide one of the host's text models is."""
    return int(part.transformer.get_input_embeddings().weight.shape[1])


def token_ids(chunks: Chunks) -> torch.Tensor:
    """The host's weighted tokens as ids (chunks, length); the start token's stands where a vector has none."""
    return torch.tensor(
        [[token[0] if _is_id(token[0]) else chunk[0][0] for token in chunk] for chunk in chunks], dtype=torch.long
    )


def usable(chunks: Chunks, part: Any) -> Chunks:
    """Without what the host leaves out when it encodes: vectors of another width. It fills up with padding, too."""
    width, pad = width_of(part), part.special_tokens["pad"]
    kept = [
        [t for t in chunk if _is_id(t[0]) or (torch.is_tensor(t[0]) and t[0].shape == (width,))] for chunk in chunks
    ]
    return [[*good, *[(pad, 1.0)] * (len(chunk) - len(good))] for good, chunk in zip(kept, chunks, strict=True)]


def vectors_in(chunks: Chunks) -> dict[tuple[int, int], torch.Tensor]:
    """Vectors (H,) by (chunk, place), where one stands instead of a token."""
    return {
        (number, place): token[0].detach().clone()
        for number, chunk in enumerate(chunks)
        for place, token in enumerate(chunk)
        if not _is_id(token[0])
    }


def with_inputs(chunks: Chunks, inputs: torch.Tensor, rows: torch.Tensor) -> Chunks:
    """The tokens with vectors in place of those that were moved; weights stay."""
    return [
        [(inputs[number, place], *token[1:]) if rows[number, place] else token for place, token in enumerate(chunk)]
        for number, chunk in enumerate(chunks)
    ]


def _is_id(token: Any) -> bool:
    return isinstance(token, numbers.Integral)
