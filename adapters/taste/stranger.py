"""The control: how well the average of other people's tastes predicts the same answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..comparisons import PreferenceStore
from .answers import Answers, known_answers
from .likelihood import Array
from .replay import Prediction, hit_of
from .subspace import Subspace

__all__ = ["others_weights", "stranger_accuracy"]

FEWEST = 5  # answers of somebody to count as another taste
MOST = 30  # people asked, those with most answers


def others_weights(store: PreferenceStore, encoder: str, person: str, subspace: Subspace | None = None) -> Array | None:
    """Return the mean direction (D,) of the others' tastes in this store; None where nobody else answered enough.

    Everybody counts the same: each taste has length 1 before the mean. Nothing is encoded for it: answers about
    pictures without a cached vector are left out.

    Args:
        encoder: its identity.
        subspace: in which directions the encoder's images vary, as for the person's own taste.
    """
    others = sorted(
        (one for one in store.people_answers() if one.person != person and one.answers >= FEWEST),
        key=lambda one: (-one.answers, one.person),
    )
    directions = []
    for other in others[:MOST]:
        # Without what people have in common: the person's own answers are part of that.
        answers = replace(known_answers(store, encoder, other.person), subspace=subspace)
        if len(answers.comparisons) < FEWEST:
            continue
        weights = answers.fit().weights_
        length = float(np.linalg.norm(weights))
        if length > 0.0:
            directions.append(np.asarray(weights) / length)
    return np.mean(directions, axis=0) if directions else None


def stranger_accuracy(weights: Array, answers: Answers, predictions: Sequence[Prediction]) -> float | None:
    """Return how well these weights predict the very answers that the person's own taste was tested on, in [0, 1]."""
    hits = []
    for prediction in predictions:
        rows = list(prediction.rows)
        log_odds = (answers.left[rows] - answers.right[rows]) @ weights
        sign = np.array([1.0 if answers.comparisons[row].outcome == "left" else -1.0 for row in rows])
        hits.append(np.mean([hit_of(0.5 + 0.5 * float(np.sign(value))) for value in log_odds * sign]))
    return float(np.mean(hits)) if hits else None
