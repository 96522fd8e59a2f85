"""Real people's answers, asked again in another order: what they said to a pair is known, so only such pairs are asked.

Shapes: S answers to choose from, C numbers of answers looked at, D joint width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..taste import BradleyTerry
from ..taste.observed import Observed
from ..taste.pairs import information_gain
from ._asking import PriorOf
from ._samples import Sample
from ._tables import Array

__all__ = ["replayed_accuracy"]


def replayed_accuracy(sample: Sample, strategy: str, prior_of: PriorOf, sizes: Sequence[int], seed: int) -> list[float]:
    """(C,) accuracy on one person's test answers after so many of the others, the next one chosen by `strategy`.

    The choice looks at both pictures of a pair, never at the answer.
    """
    rng = np.random.default_rng(seed)
    left = np.ones(len(sample.chosen), dtype=bool)
    taken: list[int] = []
    found = []
    model: BradleyTerry | None = None
    for count in range(1, max(sizes) + 1):
        rest = np.flatnonzero(left)
        if strategy == "random" or model is None:
            pick = int(rng.choice(rest))
        else:
            pick = int(rest[np.argmax(_worth(model, sample.chosen[rest] - sample.rejected[rest], strategy))])
        left[pick] = False
        taken.append(pick)
        if strategy != "random" or count in sizes:
            observed = _observed(sample.chosen[taken], sample.rejected[taken])
            model = prior_of(observed).fit(observed)
        if count in sizes and model is not None:
            log_odds = sample.difference @ model.weights_
            found.append(float(np.where(log_odds == 0.0, 0.5, (log_odds > 0.0) == sample.left).mean()))
    return found


def _worth(model: BradleyTerry, difference: Array, strategy: str) -> Array:
    """Worth of asking about each pair; the same whichever way round the difference is."""
    log_odds = difference @ model.weights_
    if strategy == "uncertainty":
        return np.asarray(-np.abs(log_odds))
    return np.asarray(information_gain(log_odds, model.utility_variance(difference)))


def _observed(chosen: Array, rejected: Array) -> Observed:
    empty = np.zeros((0, chosen.shape[1]))
    return Observed(chosen, rejected, (empty, empty), (), (), np.ones(len(chosen)))
