"""Pictures of answers to vectors, while ComfyUI shows how far it is and lets it be cancelled."""

from __future__ import annotations

from collections.abc import Iterable

import comfy.model_management
import comfy.utils

from ..adapters.comparisons import Comparison, Offer, PreferenceStore
from ..adapters.encoders import ImageTextEncoder, encode_readable

__all__ = ["encode_new_images"]

_AT_A_TIME = 4  # images encoded between two looks at the cancel button; CLIP-L takes about a second each on a CPU


def encode_new_images(store: PreferenceStore, encoder: ImageTextEncoder, answers: Iterable[Comparison | Offer]) -> None:
    """Encode the images of these that the encoder hasn't seen, so that whoever learns finds them done."""
    progress = comfy.utils.ProgressBar(1)

    def on_batch(done: int, total: int) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        progress.update_absolute(done, max(total, 1))

    images = [image for one in answers for image in _images(one)]
    encode_readable(store, encoder, images, _AT_A_TIME, on_batch)


def _images(one: Comparison | Offer) -> tuple[str, ...]:
    return one.images if isinstance(one, Offer) else (one.left, one.right)
