"""How much better: an answer on a scale of four steps instead of two.

Whoever presses "much better" says that the difference that they felt, true utility and noise, was beyond a cut c:

    P(left, much) = sigmoid(z - c),   P(left, not much) = sigmoid(z) - sigmoid(z - c),   z = u(left) - u(right)

Each factors into Bradley-Terry comparisons with an offset, as sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b)
(1 - e^(b-a)): "not much" is sigmoid(z) sigmoid(c - z) (1 - e^-c). The offset is one more coordinate whose weight is
known. The best of several images and much better than the others is the same with the others' log-sum-exp in the place
of u(right), see `likelihood.graded_choices`.

Not everybody means the same by it, and many will forget the key. So the evidence decides for each person, as it does
about "both bad": which cut, and whether to believe it at all, against the same answers with "much" said at random.

Source: McCullagh 1980, "Regression models for ordinal data"; two cuts, symmetric about even, and one at even.

Measured in the study `clicks`: its section in the studies' README.

Shapes: N comparisons, D width.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .likelihood import Array
from .observed import Observed

__all__ = ["CUTS", "graded", "log_odds_at_random", "log_share"]

CUTS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # nats
_KNOWN = 1e-3  # the offset's coordinate, in units of an average pair: its weight is known, and stays what it is


def graded(observed: Observed, cut: float, mean: Array | None) -> dict[str, Any]:
    """Arguments of `BradleyTerry.fit` in width D + 1, `prior_mean` among them.

    Args:
        observed: answers.
        cut: c, in nats.
        mean: (D,) prior mean; None for zero.
    """
    size = _KNOWN * (float(np.sqrt(np.square(observed.differences).sum(axis=1).mean())) or 1.0)
    count = len(observed.chosen)
    much = np.full(count, np.nan) if observed.much is None else observed.much
    little, weight = much == 0.0, observed.sample_weight[:count]
    return {
        "chosen": np.concatenate([_wider(observed.chosen), _wider(observed.rejected[little], size)]),
        "rejected": np.concatenate(
            [_wider(observed.rejected, np.where(much == 1.0, size, 0.0)), _wider(observed.chosen[little])]
        ),
        "ties": (_wider(observed.ties[0]), _wider(observed.ties[1])),
        "orderings": [_wider(images) for images in observed.orderings] or None,
        "choices": [_wider(images) for images in observed.choices] or None,
        "sample_weight": np.concatenate([weight, weight[little], observed.sample_weight[count:]]),
        "prior_mean": np.append(np.zeros(observed.chosen.shape[1]) if mean is None else mean, cut / size),
        "graded": None if observed.choice_much is None else (observed.choice_much, cut),
    }


def log_share(observed: Observed, cut: float) -> float:
    """What a fit's evidence lacks, in nats: the factor 1 - e^-c of each answer that wasn't much better."""
    return _counted(observed, 0.0) * math.log1p(-math.exp(-cut))


def log_odds_at_random(observed: Observed) -> float:
    """Log-probability, in nats, of when "much" was said, if it is said at random and how often is not known."""
    yes, no = _counted(observed, 1.0), _counted(observed, 0.0)
    return math.lgamma(yes + 1.0) + math.lgamma(no + 1.0) - math.lgamma(yes + no + 2.0)


def _counted(observed: Observed, how: float) -> float:
    """How often "much" was answered so, of comparisons and choices."""
    weight, kinds = observed.sample_weight, (observed.much, observed.choice_much)
    parts = (weight[: len(observed.chosen)], weight[len(weight) - len(observed.choices) :])
    return sum(float(part[much == how].sum()) for part, much in zip(parts, kinds, strict=True) if much is not None)


def _wider(rows: Array, value: float | Array = 0.0) -> Array:
    return np.concatenate([rows, np.broadcast_to(np.reshape(value, (-1, 1)), (len(rows), 1))], axis=1)
