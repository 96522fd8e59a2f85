"""Vectors of stored images, computed once per encoder."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import ImageError

__all__ = ["CachedEncoder", "VectorStore", "encode_cached", "encode_readable"]


class VectorStore(Protocol):
    """The part of `PreferenceStore` that caching needs."""

    def image(self, image_id: str, /) -> Image.Image:
        """The picture as RGB."""

    def vectors(self, encoder: str, ids: Sequence[str], /) -> Mapping[str, Any]:
        """Known vectors by image id; unknown ids are absent."""

    def put_vectors(self, encoder: str, vectors: Mapping[str, Any], /) -> None:
        """Keep vectors of one encoder."""


class CachedEncoder(Protocol):
    """The part of `ImageTextEncoder` that caching needs."""

    identity: str
    dim: int

    def encode_images(self, images: list[Image.Image], /) -> Tensor:
        """(N, D) float32 on the CPU, unit norm."""


def encode_readable(
    store: VectorStore,
    encoder: CachedEncoder,
    image_ids: Sequence[str],
    batch: int = 16,
    on_batch: Callable[[int, int], None] | None = None,
) -> dict[str, Tensor]:
    """Return unit vectors (D,) float32, on the CPU, by image id; images whose picture is gone or damaged are absent.

    What the store lacks is encoded and written back, a batch at a time, so that an interruption keeps what is done.

    Args:
        store: A `PreferenceStore`.
        encoder: Only its identity decides what counts as cached.
        image_ids: May repeat.
        batch: Pictures encoded and written at a time.
        on_batch: Called before each batch and at the end with (pictures done, pictures to encode); may raise to stop.

    Raises:
        EncoderError, OutOfMemoryError: as the encoder says. StoreError: the vectors can't be written.
    """
    unique = list(dict.fromkeys(image_ids))
    known = {
        name: torch.from_numpy(np.array(v, np.float32)) for name, v in store.vectors(encoder.identity, unique).items()
    }
    missing = [name for name in unique if name not in known]
    for start in range(0, len(missing), batch):
        if on_batch is not None:
            on_batch(start, len(missing))
        pictures = {}
        for name in missing[start : start + batch]:
            with contextlib.suppress(ImageError):
                pictures[name] = store.image(name)
        if pictures:
            fresh = dict(zip(pictures, encoder.encode_images(list(pictures.values())), strict=True))
            store.put_vectors(encoder.identity, {name: vector.numpy() for name, vector in fresh.items()})
            known |= fresh
    if on_batch is not None:
        on_batch(len(missing), len(missing))
    return known


def encode_cached(store: VectorStore, encoder: CachedEncoder, image_ids: Sequence[str], batch: int = 16) -> Tensor:
    """Vectors of stored images, in the order asked; what the store lacks is encoded and written back.

    Args:
        store, encoder, image_ids, batch: As in `encode_readable`.

    Returns:
        (N, D) float32, unit norm.

    Raises:
        ImageError: a picture is gone or damaged; the vectors of all others are kept.
    """
    known = encode_readable(store, encoder, image_ids, batch)
    if lost := [name for name in image_ids if name not in known]:
        raise ImageError(
            f"Cannot encode image {lost[0][:12]}…: its picture is gone or damaged; expected all {len(image_ids)} of "
            "them. Add the picture again, or delete the comparisons that it is in."
        )
    return torch.stack([known[name] for name in image_ids]) if len(image_ids) else torch.zeros(0, encoder.dim)
