"""Real people's answers, asked again in another order: what they said to a pair is known, so only such pairs are asked.

Shapes: S answers to choose from, C numbers of answers looked at, D joint width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..taste import BradleyTerry
from ..taste.gain import information_gain
from ..taste.observed import Observed
from ._asking import ByEvidence, PriorOf
from ._samples import Sample
from ._tables import Array

__all__ = ["observed_pairs", "replayed_accuracy"]


def replayed_accuracy(sample: Sample, strategy: str, prior_of: PriorOf, sizes: Sequence[int], seed: int) -> list[float]:
    """(C,) accuracy on one person's test answers after so many of the others, the next one chosen by `strategy`.

    The choice looks at both pictures of a pair, never at the answer. The first is random where nothing is known yet:
    no other people either.
    """
    rng = np.random.default_rng(seed)
    first = 0 if isinstance(prior_of, ByEvidence) and prior_of.population is not None else 1  # answers that ours needs
    left = np.ones(len(sample.chosen), dtype=bool)
    taken: list[int] = []
    found = []
    for count in range(max(sizes) + 1):
        informed = strategy != "random" and count >= first
        if informed or count in sizes:
            observed = observed_pairs(sample.chosen[taken], sample.rejected[taken])
            model = prior_of(observed).fit(observed)
        if count in sizes:
            log_odds = sample.difference @ model.weights_
            found.append(float(np.where(log_odds == 0.0, 0.5, (log_odds > 0.0) == sample.left).mean()))
        if count < max(sizes):
            rest = np.flatnonzero(left)
            pick = rng.choice(rest)
            if informed:
                pick = rest[np.argmax(_worth(model, sample.chosen[rest] - sample.rejected[rest], strategy))]
            left[pick] = False
            taken.append(int(pick))
    return found


def _worth(model: BradleyTerry, difference: Array, strategy: str) -> Array:
    """Worth of asking about each pair; the same whichever way round the difference is."""
    log_odds = difference @ model.weights_
    if strategy == "uncertainty":
        return np.asarray(-np.abs(log_odds))
    return np.asarray(information_gain(log_odds, model.utility_variance(difference)))


def observed_pairs(chosen: Array, rejected: Array) -> Observed:
    """Comparisons (N, D) with a preference and nothing else, each counting once."""
    empty = np.zeros((0, chosen.shape[1]))
    return Observed(chosen, rejected, (empty, empty), (), (), np.ones(len(chosen)))
