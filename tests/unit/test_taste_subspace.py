"""In which directions images vary: found without answers, used by the prior, and the same for every process."""

from __future__ import annotations

import numpy as np
import pytest
from palate.adapters.comparisons import Comparison
from palate.adapters.errors import ShapeError
from palate.adapters.files import load_taste, save_taste
from palate.adapters.taste import fit_taste
from palate.adapters.taste.observed import observe
from palate.adapters.taste.prior import EXPONENTS, evidence_prior
from palate.adapters.taste.subspace import image_subspace, stored_subspace

WIDTH = 6


class Numbers:
    """An encoder whose vectors are all in the store's cache."""

    identity = "numbers"
    name = "numbers"
    dim = WIDTH
    text_projection = None


def pictures(count, seed=0, spreads=(5.0, 2.0, 1.0, 0.5, 0.2, 0.1)):
    return np.random.default_rng(seed).standard_normal((count, WIDTH)) * spreads + 3.0


def pairs(count, weights, seed=1):
    """Decided by a hidden taste with Bradley-Terry noise."""
    generator = np.random.default_rng(seed)
    left, right = pictures(count, seed + 1), pictures(count, seed + 2)
    won = generator.random(count) < 1 / (1 + np.exp(-(left - right) @ weights))
    return observe(left, right, np.where(won, "left", "right"), np.ones(count))


def fill(store, count, start=0):
    vectors = pictures(start + count)[start:]
    store.put_vectors("numbers", {f"{start + number}": vector for number, vector in enumerate(vectors)})


def test_the_direction_that_varies_most_comes_first():
    """100,000 pictures: shrinking by 6 more of them is nothing, so the variances are the squares of the spreads."""
    found = image_subspace(pictures(100_000), directions=3)
    np.testing.assert_allclose(found.mean, 3.0, atol=0.1)
    np.testing.assert_allclose(np.abs(found.directions), np.eye(WIDTH)[:3], atol=0.05)
    np.testing.assert_allclose(found.variances, [25.0, 4.0, 1.0], rtol=0.03)
    assert found.rest == pytest.approx((0.25 + 0.04 + 0.01) / 3, rel=0.05)


def test_few_pictures_say_little_by_hand():
    """Two pictures at -1 and 1 on the first axis of two: sums 2 and 0, plus 2 / 2 each, over 2 + 2: 0.75 and 0.25."""
    found = image_subspace([[-1.0, 0.0], [1.0, 0.0]])
    assert found.variances == pytest.approx([0.75]) and found.rest == pytest.approx(0.25)
    stretch = found.stretch(-0.5, variance=2.0)
    assert stretch.shares == pytest.approx([3**-0.5]) and stretch.variance == 2.0
    assert found.stretch(0.0).shares.tolist() == [1.0]


@pytest.mark.parametrize("vectors", [np.zeros((0, 4)), np.ones((9, 4)), np.ones((1, 4))])
def test_where_nothing_varies_there_is_none(vectors):
    assert image_subspace(vectors) is None


def test_vectors_with_nan_are_named():
    with pytest.raises(ShapeError, match="`vectors`: row 1 holds NaN"):
        image_subspace([[1.0, 2.0], [np.nan, 1.0]])


def test_a_store_looks_again_when_there_are_twice_as_many(store):
    fill(store, 31)
    assert stored_subspace(store, "numbers") is None
    fill(store, 1, 31)
    first = stored_subspace(store, "numbers")
    np.testing.assert_allclose(first.directions, image_subspace(pictures(32).astype(np.float32)).directions)
    fill(store, 31, 32)
    assert stored_subspace(store, "numbers") is first
    fill(store, 1, 63)
    assert stored_subspace(store, "numbers") is not first
    assert stored_subspace(store, "others") is None


def test_damaged_vectors_are_left_out(store):
    fill(store, 40)
    with store._database.write() as connection:
        connection.execute("UPDATE vectors SET vector = ? WHERE image = '3'", (b"\x01",))
        connection.execute("UPDATE vectors SET vector = ? WHERE image = '5'", (b"\x00\x00\xc0\x7f" * WIDTH,))
    assert store.count_vectors("numbers") == 40
    assert store.first_vectors("numbers", 32).shape == (30, WIDTH)
    assert store.first_vectors("none", 32).shape == (0, 0)


@pytest.mark.parametrize(("alike", "expected"), [(True, -0.5), (False, -0.25)])
def test_evidence_tells_two_tastes_apart(alike, expected):
    """Weights that make all that varies matter alike, and weights of one size, which are about what varies most."""
    spreads = np.array([5.0, 2.0, 1.0, 0.5, 0.2, 0.1])
    subspace = image_subspace(pictures(5_000))
    signs = np.array([1, -1, 1, 1, -1, 1])
    weights = signs * (1.5 / spreads if alike else np.full(WIDTH, 1.0))
    prior = evidence_prior(pairs(400, weights), subspace)
    exponent = np.log(prior.stretch.shares[0]) / np.log(subspace.variances[0] / subspace.rest)
    assert exponent <= expected + 1e-9 if alike else exponent >= expected - 1e-9
    assert any(exponent == pytest.approx(value) for value in EXPONENTS)


def test_nothing_told_apart_is_the_plain_prior():
    same = np.ones((3, WIDTH))
    assert evidence_prior(observe(same, same, ["left"] * 3, np.ones(3)), image_subspace(pictures(50))).stretch is None


def test_a_taste_file_keeps_what_such_a_prior_left_open(store, tmp_path):
    fill(store, 64)
    for number in range(0, 20, 2):
        store.add(Comparison("mara", f"{number}", f"{number + 1}", "left"))
    taste = fit_taste(store, Numbers(), "mara", half_life=30.0)
    assert taste.fitted.posterior.factor.directions.shape == (WIDTH - 1, WIDTH)
    loaded = load_taste(save_taste(taste, tmp_path / "mara.safetensors"), "numbers")
    asked = pictures(5, seed=9)
    np.testing.assert_allclose(
        loaded.model.utility_covariance(asked), taste.model.utility_covariance(asked), rtol=1e-4, atol=1e-4
    )
    plain = fit_taste(store, Numbers(), "mara", subspace=None)
    assert isinstance(plain.fitted.posterior.factor, float)


@pytest.mark.parametrize("half_life", [0.0, -1.0, float("nan")])
def test_a_half_life_is_above_zero(store, half_life):
    with pytest.raises(ShapeError, match="expected days above 0"):
        fit_taste(store, Numbers(), "mara", half_life=half_life)
