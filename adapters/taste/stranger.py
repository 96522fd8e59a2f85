"""The control: how well the average of other people's tastes predicts the same answers."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..comparisons import PreferenceStore
from .answers import Answers, known_answers
from .likelihood import Array
from .replay import Prediction, hit_of
from .subspace import stored_subspace

__all__ = ["others_weights", "stranger_accuracy"]

FEWEST = 5  # answers of somebody to count as another taste
MOST = 30  # people asked, those with most answers


def others_weights(store: PreferenceStore, encoder: str, person: str) -> Array | None:
    """Return the mean direction (D,) of the others' tastes in this store; None where nobody else answered enough.

    Everybody counts the same: each taste has length 1 before the mean. Nothing is encoded for it: answers about
    pictures without a cached vector are left out. Others are learned from again only when they answered again.

    Args:
        store: Where the answers and vectors are.
        encoder: Its identity.
        person: Who is not asked.
    """
    others = sorted(
        (one for one in store.people_answers() if one.person != person and one.answers >= FEWEST),
        key=lambda one: (-one.answers, one.person),
    )[:MOST]
    vectors, directions = store.count_vectors(encoder), []
    for one in others:
        who = store.path, encoder, one.person, (one.first, store.revision(one.person))
        direction = _direction(*who, vectors.bit_length())
        if direction is None:  # any picture more may be theirs
            direction = _direction(*who, -vectors)
        if direction is not None:
            directions.append(direction)
    return np.mean(directions, axis=0) if directions else None


@functools.lru_cache(maxsize=2 * MOST)
def _direction(path: Path, encoder: str, person: str, answered: tuple[int, int], vectors: int) -> Array | None:
    """A person's taste (D,), of length 1; None where too little is known.

    Args:
        path: Of the store.
        encoder, person: As for `others_weights`.
        answered: Another one after each answer, and where somebody was forgotten and began anew.
        vectors: Another one when many more pictures have become known to the encoder; where too little was known, any.
    """
    with PreferenceStore.existing(path) as store:
        # Without what people have in common: the person's own answers are part of that.
        answers = replace(known_answers(store, encoder, person), subspace=stored_subspace(store, encoder))
    if len(answers.comparisons) < FEWEST:
        return None
    weights = np.asarray(answers.fit().weights_)
    length = float(np.linalg.norm(weights))
    return weights / length if length > 0.0 else None


def stranger_accuracy(weights: Array, answers: Answers, predictions: Sequence[Prediction]) -> float | None:
    """Return how well these weights predict the very answers that the person's own taste was tested on, in [0, 1]."""
    hits = []
    for prediction in predictions:
        rows = list(prediction.rows)
        log_odds = (answers.left[rows] - answers.right[rows]) @ weights
        sign = np.array([1.0 if answers.comparisons[row].outcome == "left" else -1.0 for row in rows])
        hits.append(np.mean([hit_of(0.5 + 0.5 * float(np.sign(value))) for value in log_odds * sign]))
    return float(np.mean(hits)) if hits else None
