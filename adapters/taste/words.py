"""A taste in words: what the pictures that a person likes look like, as a vocabulary says it.

For each word, how much the utility of the pictures seen rises where they look more like it:

    score_m = (x_m - mean x) . (t - mean t of the word's kind)      how much picture m looks like the word
    effect  = mean_m score_m * u(x_m) / std_m score_m               nats for one standard deviation of looking like it

The effect is linear in the weights, effect = d . weights with d = sum_m score_m (x_m - mean x) / (M std), so that its
posterior variance d' covariance d says whether its sign is known. Words whose sign is a guess are left out. Going
through the pictures keeps to what they show: a word's own vector points mostly where no picture ever differed, and
nothing can be known there.

Shapes: W words, M pictures, D joint width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import ShapeError
from .arrays import Matrix, require_finite, to_array, to_matrix
from .likelihood import Array
from .pairs import HasModel

__all__ = ["Word", "WordEffect", "word_effects", "words_of"]

SURE = 1.959964  # standard deviations from zero: the sign is wrong in 2.5 % at most
LIKELY = 1.281552  # the sign is wrong in 10 % at most
ALIKE = 0.85  # correlation of two words' scores from which one says what the other does
_LEAST = 1e-6  # standard deviation of a score that tells pictures apart


@dataclass(frozen=True)
class Word:
    """One word of a vocabulary.

    Attributes:
        text: As it is shown.
        kind: What it is a word for, "colour" or "mood": it is told from the others of its kind.
        sentence: As it is encoded.
    """

    text: str
    kind: str
    sentence: str


@dataclass(frozen=True)
class WordEffect:
    """How much a person likes what a word says.

    Attributes:
        effect: Nats of utility for one standard deviation of looking like the word; above 0: liked.
        deviation: The posterior's standard deviation of it, in nats, >= 0.
    """

    word: Word
    effect: float
    deviation: float

    @property
    def sure(self) -> bool:
        """Whether its sign is known."""
        return abs(self.effect) > SURE * self.deviation

    @property
    def likely(self) -> bool:
        """Whether its sign is known or likely."""
        return abs(self.effect) > LIKELY * self.deviation


def words_of(
    taste: HasModel, words: Sequence[Word], word_vectors: Matrix, image_vectors: Matrix, most: int = 8
) -> tuple[list[WordEffect], list[WordEffect]]:
    """Return what a person likes and dislikes, each at most `most` words of known or likely sign.

    Known ones come first, the strongest of both first.

    Args:
        taste: A `Taste`.
        words: The vocabulary.
        word_vectors: (W, D) of the words' sentences, by the taste's encoder.
        image_vectors: (M, D) of the pictures that the person saw.

    Raises:
        ShapeError: lengths or widths differ, or NaN.
    """
    found, scores = _effects(taste, words, word_vectors, image_vectors)
    effects = np.array([one.effect for one in found])
    likely = [int(i) for i in np.argsort(-np.abs(effects)) if found[int(i)].likely]
    order = sorted(likely, key=lambda i: not found[i].sure)  # stable: the strongest stay first
    return tuple(  # type: ignore[return-value]
        [found[i] for i in _different([i for i in order if sign * effects[i] > 0], scores, most)] for sign in (1, -1)
    )


def word_effects(
    taste: HasModel, words: Sequence[Word], word_vectors: Matrix, image_vectors: Matrix
) -> list[WordEffect]:
    """Return how much a person likes each word, in the order of `words`; [] where fewer than two pictures were seen.

    Args and errors as of `words_of`.
    """
    return _effects(taste, words, word_vectors, image_vectors)[0]


def _effects(
    taste: HasModel, words: Sequence[Word], word_vectors: Matrix, image_vectors: Matrix
) -> tuple[list[WordEffect], Array]:
    """The effects, and the words' standardised scores (M, W) that say which are alike."""
    scores, directions = _scores(words, word_vectors, image_vectors)
    if not len(directions):
        return [], scores
    effects = to_array("words", taste.model.log_odds(directions, np.zeros_like(directions)))
    deviations = np.sqrt(to_array("words", taste.model.utility_variance(directions)))
    return [WordEffect(words[i], float(effects[i]), float(deviations[i])) for i in range(len(words))], scores


def _scores(words: Sequence[Word], word_vectors: Matrix, image_vectors: Matrix) -> tuple[Array, Array]:
    """Standardised scores (M, W) and the directions (W, D) whose dot product with the weights is a word's effect."""
    pictures = require_finite("image_vectors", to_matrix("image_vectors", image_vectors)).astype(np.float64)
    texts = require_finite("word_vectors", to_matrix("word_vectors", word_vectors, pictures.shape[1]))
    if len(texts) != len(words):
        raise ShapeError(f"Cannot put a taste into words: {len(words)} words, {len(texts)} vectors; expected as many.")
    if not len(words) or len(pictures) < 2:
        return np.zeros((len(pictures), 0)), np.zeros((0, pictures.shape[1]))
    contrast = texts.astype(np.float64, copy=True)
    kinds = np.array([word.kind for word in words], dtype=object)
    for kind in set(kinds):
        contrast[kinds == kind] -= contrast[kinds == kind].mean(axis=0)
    centred = pictures - pictures.mean(axis=0)
    scores = centred @ contrast.T
    spread = scores.std(axis=0)
    scores = np.where(spread > _LEAST, scores / np.maximum(spread, _LEAST), 0.0)
    return scores, scores.T @ centred / len(pictures)


def _different(order: Sequence[int], scores: Array, most: int) -> list[int]:
    """Take from the front, and leave out what says nearly the same as one that was taken."""
    taken: list[int] = []
    for index in order:
        alike = np.abs(scores[:, taken].T @ scores[:, index]) / len(scores) if taken else np.zeros(1)
        if len(taken) < most and alike.max() < ALIKE:
            taken.append(index)
    return taken
