"""Answers as the likelihood wants them: rows of differences of image vectors, by kind of answer.

Shapes: N comparisons, T ties, R rankings or choices of k images, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import ShapeError
from .arrays import Matrix, require_finite, to_array, to_matrix
from .likelihood import Array, Block, Likelihood

__all__ = ["to_likelihood"]


def to_likelihood(
    width: int,
    chosen: Matrix,
    rejected: Matrix,
    ties: tuple[Matrix, Matrix] | None,
    orderings: Matrix | Sequence[Matrix] | None,
    sample_weight: Matrix | None,
    choices: Matrix | Sequence[Matrix] | None,
    graded: tuple[Array, float] | None = None,
) -> Likelihood:
    """Turn all answers into rows of differences; arguments as for `BradleyTerry.fit`.

    Raises:
        ShapeError: widths or lengths differ, or there is NaN or infinity; the message names the argument.
    """
    rows = [_difference("chosen", chosen, "rejected", rejected, width)]
    target = np.ones(len(rows[0]))
    if ties is not None:
        if len(ties) != 2:
            raise ShapeError(f"Cannot use `ties`: found {len(ties)} tables; expected two (T, D), side by side.")
        rows.append(_difference("ties[0]", ties[0], "ties[1]", ties[1], width))
        target = np.concatenate([target, np.full(len(rows[1]), 0.5)])
    lists = [("orderings", orderings), ("choices", choices)]
    groups = {name: _by_length(name, values, width) for name, values in lists if values is not None}
    counts = [sum(len(index) for index, _ in of_length.values()) for of_length in groups.values()]
    weight = _weights(sample_weight, len(rows[0]), len(target) + sum(counts))
    blocks: list[Block] = []
    start, first = len(target), len(target)  # the next row, and the first answer of this list
    for (name, of_length), count in zip(groups.items(), counts, strict=True):
        for length, (index, images) in sorted(of_length.items()):
            stacked = np.stack(images).astype(np.float64)
            rows.append((stacked[:, :-1] - stacked[:, -1:]).reshape(-1, width))
            stages = length - 1 if name == "orderings" else 1
            counts_of = weight[[first + i for i in index]]
            how = (graded[0][index], graded[1]) if graded is not None and name == "choices" else (None, 0.0)
            blocks.append(Block(start, len(index), length - 1, stages, counts_of, *how))
            start += len(index) * (length - 1)
        first += count
    differences = rows[0] if len(rows) == 1 else np.concatenate(rows)
    return Likelihood(np.ascontiguousarray(differences), target, weight[: len(target)], tuple(blocks))


def _weights(given: Matrix | None, comparisons: int, answers: int) -> Array:
    """(answers,) how often each counts."""
    if given is None:
        return np.ones(answers)
    weight = require_finite("sample_weight", to_array("sample_weight", given)).astype(np.float64)
    if weight.shape not in ((comparisons,), (answers,)):
        expected = f"({comparisons},)" + (f" or ({answers},)" if answers > comparisons else "")
        raise ShapeError(f"Cannot use `sample_weight`: found shape {weight.shape}; expected {expected}.")
    if (weight < 0).any():
        raise ShapeError("Cannot use `sample_weight`: found a negative one; expected 0 or more.")
    return np.concatenate([weight, np.ones(answers - len(weight))])


def _by_length(lists: str, values: Matrix | Sequence[Matrix], width: int) -> dict[int, tuple[list[int], list[Array]]]:
    """Places in the list and images (k, D), by k."""
    groups: dict[int, tuple[list[int], list[Array]]] = {}
    for index, ranking in enumerate(values):
        name = f"{lists}[{index}]"
        matrix = require_finite(name, to_matrix(name, ranking, width))
        if len(matrix) < 2:
            raise ShapeError(f"Cannot use `{name}`: found {len(matrix)} image(s); expected two or more, best first.")
        places, images = groups.setdefault(len(matrix), ([], []))
        places.append(index)
        images.append(matrix)
    return groups


def _difference(first_name: str, first: Matrix, second_name: str, second: Matrix, width: int) -> Array:
    left, right = to_matrix(first_name, first, width), to_matrix(second_name, second, width)
    if len(left) != len(right):
        raise ShapeError(
            f"Cannot compare: `{first_name}` has {len(left)} vectors, `{second_name}` has {len(right)}; "
            "expected as many, row by row."
        )
    difference = np.subtract(left, right, dtype=np.float64)
    if not np.isfinite(difference.sum()):
        require_finite(first_name, left)
        require_finite(second_name, right)
    return difference.reshape(-1, width)
