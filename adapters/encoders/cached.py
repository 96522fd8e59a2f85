"""Vectors of stored images, computed once per encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .encoder import ImageTextEncoder

__all__ = ["VectorStore", "encode_cached"]


class VectorStore(Protocol):
    """The part of `PreferenceStore` that caching needs."""

    def image(self, image_id: str, /) -> Image.Image:
        """The picture as RGB."""

    def vectors(self, encoder: str, ids: Sequence[str], /) -> Mapping[str, Any]:
        """Known vectors by image id; unknown ids are absent."""

    def put_vectors(self, encoder: str, vectors: Mapping[str, Any], /) -> None:
        """Keep vectors of one encoder."""


def encode_cached(store: VectorStore, encoder: ImageTextEncoder, image_ids: Sequence[str], batch: int = 16) -> Tensor:
    """Vectors of stored images, in the order asked; what the store lacks is encoded and written back.

    Args:
        store: A `PreferenceStore`.
        encoder: Only its identity decides what counts as cached.
        image_ids: May repeat.
        batch: Pictures encoded and written at a time, so that an interruption keeps what is done.

    Returns:
        (N, D) float32, unit norm.
    """
    unique = list(dict.fromkeys(image_ids))
    known = {
        name: torch.from_numpy(np.array(v, np.float32)) for name, v in store.vectors(encoder.identity, unique).items()
    }
    missing = [name for name in unique if name not in known]
    for start in range(0, len(missing), batch):
        part = missing[start : start + batch]
        fresh = dict(zip(part, encoder.encode_images([store.image(name) for name in part]), strict=True))
        store.put_vectors(encoder.identity, {name: vector.numpy() for name, vector in fresh.items()})
        known |= fresh
    return torch.stack([known[name] for name in image_ids]) if len(image_ids) else torch.zeros(0, encoder.dim)
