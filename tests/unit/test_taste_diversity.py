"""How varied pictures are, and where they go on a map and a strip."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from palate.adapters.errors import ShapeError
from palate.adapters.taste.diversity import diversity
from palate.adapters.taste.map import strip, taste_map


def test_diversity_by_hand():
    """Three at right angles and one of them twice: of 6 pairs one is alike, 5 at distance 1."""
    assert diversity(np.eye(3)) == pytest.approx(1.0)
    assert diversity(np.eye(3)[[0, 0, 1, 2]]) == pytest.approx(5 / 6)
    assert diversity(5.0 * np.ones((4, 3))) == 0.0


def test_diversity_by_a_reference():
    """60 degrees apart: distance 0.5; the reference's is 1."""
    narrow = torch.tensor([[1.0, 0.0], [0.5, math.sqrt(0.75)]])
    assert diversity(narrow) == pytest.approx(0.5)
    assert diversity(narrow, np.eye(2)) == pytest.approx(0.5)
    assert diversity(np.eye(2), narrow) == 1.0
    assert diversity(narrow, narrow[:1]) == pytest.approx(0.5)


def test_diversity_of_nothing_and_of_opposites():
    assert [diversity(v) for v in ([], [[1.0, 0.0]], np.zeros((3, 2)))] == [0.0, 0.0, 0.0]
    assert diversity([[1.0, 0.0], [-1.0, 0.0]]) == 1.0


def test_diversity_refuses_nan_and_another_width():
    with pytest.raises(ShapeError, match="row 1 holds NaN"):
        diversity([[1.0, 0.0], [math.nan, 0.0]])
    with pytest.raises(ShapeError, match="`reference`: its vectors have width 3; expected 2"):
        diversity(np.eye(2), np.eye(3))


def test_a_map_by_hand():
    """Utilities 0, 2, 4; without them the pictures differ along the second axis by 1, 0, 2, mean 1."""
    points = taste_map([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [2.0, 2.0, 0.0]], [2.0, 0.0, 0.0])
    np.testing.assert_allclose(points, [[-2.0, 0.0], [0.0, -1.0], [2.0, 1.0]], atol=1e-12)


def test_a_map_without_a_taste_or_pictures():
    assert taste_map(np.zeros((0, 2)), [1.0, 0.0]).shape == (0, 2)
    assert (taste_map([[1.0, 0.0]], [1.0, 0.0]) == 0.0).all()
    np.testing.assert_allclose(taste_map([[0.0, 0.0], [0.0, 2.0]], [0.0, 0.0]), [[0.0, -1.0], [0.0, 1.0]])


def test_a_map_refuses_nan_and_another_width():
    with pytest.raises(ShapeError, match="row 0 holds NaN"):
        taste_map([[math.nan, 0.0]], [1.0, 0.0])
    with pytest.raises(ShapeError, match="width 3; expected 2"):
        taste_map(np.eye(3), [1.0, 0.0])
    with pytest.raises(ShapeError, match="expected \\(D,\\)"):
        taste_map(np.eye(2), np.eye(2))


def test_a_strip_runs_from_lowest_to_highest():
    """Nine pictures, five shown: ranks 0, 2, 4, 6, 8."""
    utility = np.array([5, 3, 8, 1, 7, 2, 6, 0, 4]) / 2
    assert [utility[i] for i in strip(utility, 5)] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert strip([0.3, 0.1], 7) == (1, 0)
    assert strip([0.3, 0.1, 0.9], 1) == (2,)
    assert strip([], 5) == ()


def test_a_strip_refuses_what_it_cannot_show():
    with pytest.raises(ShapeError, match="count 0; expected"):
        strip([1.0], 0)
    with pytest.raises(ShapeError, match="holds NaN"):
        strip([1.0, math.nan])
