"""A taste said in the prompt itself: words that a person's taste would add, and words it would rather not see.

How much a word is liked is read off the pictures that the person saw (`words.py`). A taste from a file has none; then
a word is as good as what it does to the prompt's embedding:

    effect(word) = (x(prompt + ", " + word) - x(prompt)) . w      nats, with the posterior's standard deviation of it

A prompt keeps what it says: no word is for a subject, none of a kind of which the prompt names one already, and one of
each kind at most. Any model that takes text takes these words, and a person can read them.

Shapes: D joint width, T texts, W words.
"""

from __future__ import annotations

import math
import re
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..errors import EncoderMismatchError, ShapeError
from .person import Taste
from .words import Word, WordEffect, word_effects

__all__ = ["MOST_WORDS", "Worded", "prompt_in_words", "sentence_vectors"]

MOST_WORDS = 8  # of either side: more is no prompt any longer
_GIVEN = frozenset({"subject"})  # what a picture is of is the prompt's to say
_SMALL = frozenset(("a", "an", "the", "in", "on", "at", "of", "with", "and", "from", "to"))
_LEAST = 0.5  # standard deviations: seven of ten such signs are right; asking for more says nothing to most people


class TextEncoder(Protocol):
    """What is used of an encoder with a text side."""

    identity: str
    name: str

    @property
    def has_text(self) -> bool:
        """Whether `encode_texts` works."""

    def encode_texts(self, texts: Sequence[str], batch_size: int = 64) -> Tensor:
        """(T, D) unit vectors."""


@dataclass(frozen=True)
class Worded:
    """A prompt that says a taste.

    Attributes:
        prompt: With the words that were added, by commas; as it was where there were none.
        negative: The words for the negative prompt, by commas; "" without any.
        added: What was added, the most liked first; effects are above 0.
        avoided: What went to the negative prompt, the most disliked first; effects are below 0.
    """

    prompt: str
    negative: str
    added: tuple[WordEffect, ...]
    avoided: tuple[WordEffect, ...]


def prompt_in_words(
    prompt: str, taste: Taste, encoder: TextEncoder, words: Sequence[Word], most: int = 2, avoid: int = 0
) -> Worded:
    """Say a taste in a prompt.

    Args:
        prompt: Stays as it is, at the front; an empty one may be all words.
        taste: Fitted, or from a file.
        encoder: The one that the taste was learned with, with a text side.
        words: To choose from: `VOCABULARY`, or `playground_words()`.
        most: Words to add at most, 0 to MOST_WORDS.
        avoid: Words for the negative prompt at most, 0 to MOST_WORDS.

    Raises:
        EncoderMismatchError: the taste was learned with another encoder, or this one has no text side.
        ShapeError: most or avoid is out of range.
    """
    if not (0 <= most <= MOST_WORDS and 0 <= avoid <= MOST_WORDS):
        raise ShapeError(
            f"Cannot put a taste into words: {most} to add and {avoid} to avoid; expected 0 to {MOST_WORDS} each."
        )
    if encoder.identity != taste.encoder or not encoder.has_text:
        found = f"found {encoder.name}" + ("" if encoder.has_text else ", which has no text side")
        raise EncoderMismatchError(
            f"Cannot put this taste into words: {found}; expected {taste.encoder_name or 'the encoder'} "
            f"({taste.encoder[:12]}) that it was learned with, with its text side. Choose that one."
        )
    effects = _effects(prompt, taste, encoder, _free(prompt, words)) if most or avoid else []
    known = sorted((one for one in effects if abs(one.effect) > _LEAST * one.deviation), key=lambda one: -one.effect)
    added = _one_of_a_kind(one for one in known if one.effect > 0)[:most]
    avoided = tuple(one for one in reversed(known) if one.effect < 0)[:avoid]
    said = _joined((prompt, *(one.word.text for one in added))) if added else prompt
    return Worded(said, _joined(one.word.text for one in avoided), added, avoided)


def _effects(prompt: str, taste: Taste, encoder: TextEncoder, words: Sequence[Word]) -> list[WordEffect]:
    if not words:
        return []
    if taste.chosen is not None and taste.rejected is not None:
        seen = torch.cat([taste.chosen, taste.rejected])
        if found := word_effects(taste, words, sentence_vectors(encoder, words), seen):
            return found
    vectors = encoder.encode_texts([prompt, *(_joined((prompt, word.text)) for word in words)]).double()
    plain, said = vectors[:1].numpy(), vectors[1:].numpy()
    gains = taste.model.log_odds(said, plain.repeat(len(said), 0))
    variances = taste.model.utility_variance(said - plain)
    return [
        WordEffect(word, float(gain), math.sqrt(max(float(variance), 0.0)))
        for word, gain, variance in zip(words, gains, variances, strict=True)
    ]


# Sentences by encoder: a large text tower takes seconds for two hundred.
_encoded: weakref.WeakKeyDictionary[TextEncoder, dict[str, Tensor]] = weakref.WeakKeyDictionary()


def sentence_vectors(encoder: TextEncoder, words: Sequence[Word]) -> Tensor:
    """(W, D) unit vectors of the words' sentences, each encoded once for as long as the encoder lives.

    Args:
        encoder: With a text side.
        words: One or more.
    """
    known = _encoded.setdefault(encoder, {})
    if new := [word.sentence for word in words if word.sentence not in known]:
        known.update(zip(new, encoder.encode_texts(new), strict=True))
    return torch.stack([known[word.sentence] for word in words])


def _one_of_a_kind(effects: Iterable[WordEffect]) -> tuple[WordEffect, ...]:
    """The first of each kind: a picture in red and in blue is a picture in neither."""
    first: dict[str, WordEffect] = {}
    for one in effects:
        first.setdefault(one.word.kind, one)
    return tuple(first.values())


def _free(prompt: str, words: Sequence[Word]) -> list[Word]:
    """Words of the kinds that the prompt leaves open."""
    said = _names(prompt)
    taken = _GIVEN | {word.kind for word in words if _names(word.text) and _names(word.text) <= said}
    return [word for word in words if word.kind not in taken]


def _names(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.lower())) - _SMALL


def _joined(parts: Iterable[str]) -> str:
    return ", ".join(part.strip().rstrip(",") for part in parts if part.strip())
