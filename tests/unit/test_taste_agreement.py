"""How alike tastes are."""

import numpy as np
import pytest
import torch
from palate.adapters.errors import EncoderMismatchError
from palate.adapters.taste import Taste, agreement

PICTURES = [[1.0, 0.0], [2.0, 1.0], [3.0, -1.0]]


def taste(*weights, encoder="e"):
    return Taste(torch.tensor(weights), encoder, encoder, "somebody", 1)


def test_alike_opposite_and_in_between():
    """By the first axis the order is 1 2 3, by the second 3 1 2: of three pairs only 1 before 2 is the same."""
    found = agreement([taste(1.0, 0.0), taste(2.0, 0.0), taste(-1.0, 0.0), taste(0.0, 1.0)], PICTURES)
    assert np.allclose(found[0], [1, 1, 0, 1 / 3])
    assert np.array_equal(found, found.T)


def test_a_taste_that_knows_nothing_agrees_by_half():
    assert agreement([taste(0.0, 0.0), taste(1.0, 0.0)], PICTURES)[0, 1] == 0.5
    assert agreement([taste(1.0, 0.0)] * 2, PICTURES[:1])[0, 1] == 0.5
    assert agreement([], PICTURES).shape == (0, 0)


def test_tastes_of_two_encoders_cannot_be_compared():
    with pytest.raises(EncoderMismatchError, match="a, b"):
        agreement([taste(1.0, 0.0, encoder="a"), taste(1.0, 0.0, encoder="b")], PICTURES)
