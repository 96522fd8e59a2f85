"""A prior that stretches along some directions: the full covariance, told in one number and one matrix."""

from __future__ import annotations

import numpy as np
import pytest
from palate.adapters.errors import ShapeError
from palate.adapters.taste import BradleyTerry
from palate.adapters.taste.covariance import Stretch, factor_times, times_factor


def vectors(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def stretch(width, count, variance=2.0):
    directions = np.linalg.qr(vectors(7, width, count))[0].T
    return Stretch(variance, directions, np.linspace(0.1, 0.9, count))


def dense(prior):
    eye = np.eye(prior.directions.shape[1])
    return prior.variance * (eye + prior.directions.T @ np.diag(prior.shares - 1.0) @ prior.directions)


@pytest.mark.parametrize(("count", "width", "limit"), [(3, 30, 200), (40, 12, 200), (40, 12, 2)])
def test_it_is_the_full_covariance(count, width, limit, monkeypatch):
    monkeypatch.setattr("palate.adapters.taste.solve.DENSE", limit)
    prior, mean = stretch(width, 4), vectors(2, width)
    chosen, rejected, asked = vectors(0, count, width), vectors(1, count, width), vectors(3, 5, width)
    model = BradleyTerry(prior.variance).fit(chosen, rejected, prior_mean=mean, prior_covariance=prior)
    full = BradleyTerry().fit(chosen, rejected, prior_mean=mean, prior_covariance=dense(prior))
    np.testing.assert_allclose(model.weights_, full.weights_, atol=1e-6)
    np.testing.assert_allclose(model.utility_covariance(asked), full.utility_covariance(asked), rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(model.utility_variance(asked), full.utility_variance(asked), rtol=1e-5)
    assert model.log_evidence() == pytest.approx(full.log_evidence(), abs=1e-6)


@pytest.mark.parametrize(("count", "width"), [(3, 30), (10, 12), (40, 12), (0, 8)])
def test_one_number_and_one_matrix_say_the_whole_posterior(count, width):
    prior = stretch(width, 4)
    model = BradleyTerry(prior.variance).fit(vectors(0, count, width), vectors(1, count, width), prior_covariance=prior)
    gain = model.posterior.leading_gain(30)
    assert gain.shape[1] <= width  # as a file takes it
    again = BradleyTerry.from_posterior(model.weights_, prior.variance, gain)
    asked = vectors(3, 5, width)
    np.testing.assert_allclose(again.utility_covariance(asked), model.utility_covariance(asked), rtol=1e-7, atol=1e-9)


def test_with_fewer_directions_less_seems_known():
    prior = stretch(30, 4)
    model = BradleyTerry(prior.variance).fit(vectors(0, 9, 30), vectors(1, 9, 30), prior_covariance=prior)
    asked = vectors(3, 5, 30)
    exact = model.utility_variance(asked)
    for count in (2, 6, 12):
        told = BradleyTerry.from_posterior(model.weights_, 2.0, model.posterior.leading_gain(count))
        assert (told.utility_variance(asked) >= exact - 1e-9).all()


def test_one_stretch_after_another_is_the_product():
    first, second = stretch(9, 3), Stretch(3.0, np.linalg.qr(vectors(8, 9, 2))[0].T, np.array([0.2, 1.0]))
    root = times_factor(np.eye(9), first)
    np.testing.assert_allclose(dense(first.after(second)), root @ dense(second) @ root, atol=1e-12)
    assert first.after(second).variance == 6.0


def test_both_sides_of_the_factor():
    prior, rows = stretch(6, 2), vectors(0, 3, 6)
    for factor, matrix in ((prior, dense(prior)), (2.0, 4.0 * np.eye(6)), (np.linalg.cholesky(dense(prior)),) * 2):
        whole = times_factor(np.eye(6), factor)
        np.testing.assert_allclose(whole @ whole.T, dense(prior) if matrix is factor else matrix, atol=1e-12)
        np.testing.assert_allclose(times_factor(rows, factor), rows @ whole, atol=1e-12)
        np.testing.assert_allclose(factor_times(factor, rows.T), whole @ rows.T, atol=1e-12)
        np.testing.assert_allclose(factor_times(factor, rows[0]), whole @ rows[0], atol=1e-12)


def test_directions_of_another_width_are_named():
    with pytest.raises(ShapeError, match="its directions have width 6; expected 2"):
        BradleyTerry().fit(np.ones((1, 2)), np.zeros((1, 2)), prior_covariance=stretch(6, 2))
