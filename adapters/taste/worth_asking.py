"""Which prompts or seeds to generate next, so that pairs of what comes out teach most.

Shapes: G options, n vectors of one option, D width, P differences that stand for the options.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import ShapeError
from .arrays import Matrix, require_finite, to_array, to_matrix
from .bradley_terry import BradleyTerry
from .gain import information_gain
from .likelihood import Array
from .pairs import HasModel, model_of, usual_square

__all__ = ["worth_asking"]

_MOST = 600  # differences looked at, of all options together
_UNLEARNED = 4.0  # nats squared: variance of the log-odds of a usual pair, for a taste that has not learned


def worth_asking(
    taste: BradleyTerry | HasModel | None, options: Matrix | Sequence[Matrix], count: int | None = None
) -> tuple[int, ...]:
    """Return the options, the one worth generating first, each judged by what is left to learn after those before it.

    An option with several vectors, such as the pictures made so far of one prompt, is worth the mean information gain
    of a pair of them: another two of it will differ in the same ways. One with a single vector, such as a prompt's
    text in the joint space or the picture of one seed, is worth the gain of comparing it with the others' mean.

    Args:
        taste: A fitted `BradleyTerry`, a `Taste`, or None: nothing learned yet, what differs most from the rest first.
        options: (G, D), one vector an option, or G matrices (n, D), n >= 1 and not the same for all.
        count: How many to return; all when left out.

    Raises:
        ShapeError: no options, one without vectors, NaN, or a wrong width.
    """
    groups = [
        require_finite(f"options[{k}]", _rows(f"options[{k}]", option)).astype(np.float64, copy=False)
        for k, option in enumerate(options)
    ]
    if not groups or any(len(group) == 0 for group in groups):
        raise ShapeError("Cannot say what to generate next: found an option without vectors, or none; expected some.")
    every = np.concatenate([to_matrix("options", group, groups[0].shape[1]) for group in groups])
    differences, owner = _differences(groups, every.mean(axis=0))
    model = model_of(taste)
    if model is None:
        variance = _UNLEARNED / max(usual_square(every), 1e-12)
        model = BradleyTerry.from_posterior(np.zeros(every.shape[1]), variance)
    log_odds = to_array("options", model.utility(differences))
    covariance = to_array("options", model.utility_covariance(differences)).copy()
    return _greedy(log_odds, covariance, owner, len(groups) if count is None else min(count, len(groups)))


def _rows(name: str, option: Matrix) -> Array:
    array = to_array(name, option)
    return to_matrix(name, array[None] if array.ndim == 1 and array.size else array)


def _differences(groups: Sequence[Array], middle: Array) -> tuple[Array, Array]:
    """(P, D) differences that stand for the options, and (P,) whose each is."""
    most = max(1, _MOST // len(groups))
    rows, owner = [], []
    for k, group in enumerate(groups):
        if len(group) == 1:
            found = group - middle
        else:
            first, second = np.triu_indices(len(group), 1)
            some = np.linspace(0, len(first) - 1, min(most, len(first))).astype(int)
            found = group[first[some]] - group[second[some]]
        rows.append(found)
        owner.append(np.full(len(found), k))
    return np.concatenate(rows), np.concatenate(owner)


def _greedy(log_odds: Array, covariance: Array, owner: Array, count: int) -> tuple[int, ...]:
    """Take the best option, learn as if its best pair had been answered, and so on."""
    sizes = np.bincount(owner)
    left = np.ones(len(sizes), dtype=bool)
    order: list[int] = []
    for _ in range(count):
        variance = np.maximum(np.diag(covariance), 0.0)
        gain = information_gain(log_odds, variance)
        worth = np.where(left, np.bincount(owner, gain) / sizes, -np.inf)
        best = int(np.argmax(worth))
        order.append(best)
        left[best] = False
        asked = int(np.argmax(np.where(owner == best, gain, -1.0)))
        half = np.exp(-abs(log_odds[asked]) / np.sqrt(1.0 + (np.pi / 8.0) * variance[asked]))
        told = half / (1.0 + half) ** 2  # information of the answer, about p (1 - p)
        column = covariance[:, asked].copy()
        covariance -= np.outer(column, column) * (told / (1.0 + told * variance[asked]))
    return tuple(order)
