"""The vectors of a vocabulary, kept in the store: then a taste can be said in words where no encoder is loaded.

They lie beside those of the images, under an identity of their own: no image is among them.

Shapes: W words, D joint width.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ..comparisons import PreferenceStore
from .wording import TextEncoder, sentence_vectors
from .words import Word

__all__ = ["count_kept_words", "keep_words", "kept_words"]


def keep_words(store: PreferenceStore, encoder: TextEncoder, words: Sequence[Word]) -> int:
    """Encode the sentences that the store lacks, and keep them; returns how many that were.

    Args:
        store: Where to.
        encoder: One without a text side has nothing to keep.
        words: A vocabulary; of CLIP-L on a CPU it takes some seconds, once.

    Raises:
        EncoderError, OutOfMemoryError: as the encoder says. StoreError: they can't be written.
    """
    if not encoder.has_text:
        return 0
    name = _identity(encoder.identity)
    known = store.vectors(name, [word.sentence for word in words])
    new = [word for word in words if word.sentence not in known]
    if new:
        vectors = sentence_vectors(encoder, new)
        store.put_vectors(name, {word.sentence: v.numpy() for word, v in zip(new, vectors, strict=True)})
    return len(new)


def kept_words(
    store: PreferenceStore, encoder: str, vocabularies: Iterable[Sequence[Word]]
) -> tuple[Sequence[Word], Tensor] | None:
    """Return the first of these vocabularies that is kept whole, and its vectors (W, D); None for none of them.

    Args:
        store: Where they may be.
        encoder: Its identity.
        vocabularies: Which of them an encoder knows can't be told from its identity.
    """
    for words in vocabularies:
        known = store.vectors(_identity(encoder), [word.sentence for word in words])
        if words and all(word.sentence in known for word in words):
            return words, torch.stack([torch.from_numpy(known[word.sentence]) for word in words])
    return None


def count_kept_words(store: PreferenceStore, encoder: str) -> int:
    """Return how many sentences are kept of an encoder, given by its identity."""
    return store.count_vectors(_identity(encoder))


def _identity(encoder: str) -> str:
    return f"words of {encoder}"
