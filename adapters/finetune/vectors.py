"""Vectors of the pictures that are trained on, for whatever wants to know what is in them before anything is trained.

Shapes: D width of the vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..comparisons import PreferenceStore
from ..comparisons.images import read_image
from ..encoders import ImageTextEncoder
from ..errors import CancelledError
from .pairs import LabelledPair

__all__ = ["Vectors", "encoded_vectors", "pictures_of", "stored_vectors"]

Vectors = Mapping[Path, npt.NDArray[np.float32]]  # (D,) by a picture's file, all of one encoder
_TOGETHER = 16  # pictures in memory at a time


def pictures_of(pairs: Sequence[LabelledPair]) -> list[Path]:
    """Every picture of the pairs, once."""
    return list(dict.fromkeys(file for pair in pairs for file in (pair.chosen, pair.rejected)))


def encoded_vectors(
    pairs: Sequence[LabelledPair], encoder: ImageTextEncoder, cancelled: Callable[[], bool] | None = None
) -> Vectors:
    """Encode every picture of the pairs, each once.

    Args:
        cancelled: Asked before every few pictures.

    Raises:
        CancelledError: `cancelled` said so.
        ImageError: a picture can't be read.
    """
    files, found = pictures_of(pairs), dict[Path, npt.NDArray[np.float32]]()
    for start in range(0, len(files), _TOGETHER):
        if cancelled is not None and cancelled():
            raise CancelledError("Stopped before the training began.")
        part = files[start : start + _TOGETHER]
        found |= zip(part, encoder.encode_images([read_image(file) for file in part]).numpy(), strict=True)
    return found


def stored_vectors(store: PreferenceStore, person: str, pairs: Sequence[LabelledPair]) -> Vectors:
    """Return what a store has of the pictures of a person's pairs, by the encoder that knows most of them; or {}.

    A panel or a graph that learned this person's taste has put them there.
    """
    ids = {file.stem: file for file in pictures_of(pairs)}
    best: dict[Path, npt.NDArray[np.float32]] = {}
    for encoder in store.encoders(person):
        found = {ids[name]: vector for name, vector in store.vectors(encoder.identity, list(ids)).items()}
        best = found if len(found) > len(best) else best
    return best
