"""Aesthetic gradients: a `.pt` file with the mean CLIP vector of pictures that somebody likes.

It is the positive half of a taste: what is near to it is liked. Nothing in the file is run.
Source: Gallego 2022, Personalizing Text-to-Image Generation via Aesthetic Gradients, arXiv:2209.12330.
"""

from __future__ import annotations

from os import PathLike

import torch
from torch import Tensor

from ..errors import EncoderMismatchError, FileFormatError
from ..files.encoder_in_use import NamedEncoder
from ..places import typed_path
from ..taste import Taste
from ..untrusted import unpickled

__all__ = ["read_aesthetic_gradient"]

MAX_FILE = 1 << 24  # bytes; theirs have 4 KB
MAX_WIDTH = 1 << 16  # numbers; a short file can say that one number is repeated a billion times
# Two pictures' cosines with such a vector differ by about 0.1: then one is preferred with log-odds 1.
STEEPNESS = 10.0
_WHAT = "an aesthetic gradient: one vector of a CLIP"


def read_aesthetic_gradient(path: str | PathLike[str], encoder: NamedEncoder, dim: int) -> Taste:
    """Return the taste that a file of aesthetic gradients stands for.

    Args:
        path: Of the `.pt` file.
        encoder: The CLIP that it was made with: SD 1.x has OpenAI's ViT-L/14.
        dim: Width of its joint space.

    Raises:
        FileFormatError: something else, or a pickle that would run code.
        EncoderMismatchError: a vector of another width.
    """
    file = typed_path(path)
    found = unpickled(file, _WHAT, MAX_FILE)
    vector = _vector(file.name, found)
    if len(vector) != dim:
        raise EncoderMismatchError(
            f"Cannot use {file.name!r}: its vector has {len(vector)} numbers, {encoder.name} has {dim}; expected the "
            "encoder it was made with, for most such files open_clip:ViT-L-14/openai."
        )
    weights = vector / vector.norm() * STEEPNESS
    return Taste(weights, encoder.identity, encoder.name, file.stem, answers=0, prior_variance=STEEPNESS**2 / dim)


def _vector(name: str, found: object) -> Tensor:
    if not isinstance(found, Tensor) or not found.is_floating_point():
        raise FileFormatError(f"Cannot read {name!r}: it holds {type(found).__name__}; expected {_WHAT}.")
    shape = tuple(found.shape)
    if found.ndim not in (1, 2) or not 0 < found.numel() <= MAX_WIDTH or (found.ndim == 2 and shape[0] != 1):
        raise FileFormatError(f"Cannot read {name!r}: it holds numbers of shape {shape}; expected {_WHAT}.")
    vector = found.detach().float().flatten().clone()
    if not bool(torch.isfinite(vector).all()) or not bool(vector.any()):
        raise FileFormatError(f"Cannot read {name!r}: it holds NaN, infinity or nothing but 0; expected {_WHAT}.")
    return vector
