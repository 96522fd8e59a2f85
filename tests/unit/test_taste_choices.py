"""The best of several images and weights for every kind of answer: by hand, by differences, by direct minimisation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from palate.adapters.errors import ShapeError
from palate.adapters.taste import BradleyTerry
from palate.adapters.taste.answer_rows import to_likelihood
from scipy.optimize import minimize

NONE = np.zeros((0, 4))


def vectors(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def everything(seed=0, width=4):
    """Arguments with every kind of answer, each with a weight of its own."""
    return {
        "chosen": vectors(seed, 3, width),
        "rejected": vectors(seed + 1, 3, width),
        "ties": (vectors(seed + 2, 2, width), vectors(seed + 3, 2, width)),
        "orderings": [vectors(seed + 4, 4, width), vectors(seed + 5, 3, width), vectors(seed + 6, 4, width)],
        "choices": [vectors(seed + 7, 5, width), vectors(seed + 8, 3, width), vectors(seed + 9, 5, width)],
        "sample_weight": np.random.default_rng(seed + 10).uniform(0.0, 2.0, 11),
    }


def stated(weights, chosen, rejected, ties, orderings, choices, sample_weight, variance):
    """The objective of BradleyTerry's docstring, written as it stands there."""
    losses = list(np.logaddexp(0, -(chosen - rejected) @ weights))
    z = (ties[0] - ties[1]) @ weights
    losses += list(0.5 * (np.logaddexp(0, -z) + np.logaddexp(0, z)))
    for ranking in orderings:
        u = ranking @ weights
        losses.append(sum(np.logaddexp.reduce(u[stage:]) - u[stage] for stage in range(len(u) - 1)))
    losses += [np.logaddexp.reduce(images @ weights) - (images @ weights)[0] for images in choices]
    return float(np.dot(sample_weight, losses) + 0.5 * weights @ weights / variance)


def test_the_best_of_three_by_hand():
    """Images at 1, 0, 0 and variance 1: w = 2 / (exp(w) + 2), the chance of the others; w = 0.5386...

    Hessian = 1 + p (1 - p) with p = 1 - w the chance of the best.
    """
    model = BradleyTerry().fit(np.zeros((0, 1)), np.zeros((0, 1)), choices=[[[1.0], [0.0], [0.0]]])
    w = float(model.weights_[0])
    assert w == pytest.approx(2 / (np.exp(w) + 2), abs=1e-9)
    assert w == pytest.approx(0.5386, abs=1e-4)
    assert model.utility_variance([[2.0]])[0] == pytest.approx(4 / (1 + w * (1 - w)), abs=1e-9)


@pytest.mark.parametrize("dense", [200, 2])
@pytest.mark.parametrize("variance", [0.3, 3.0])
def test_every_kind_with_weights_equals_direct_minimisation(variance, dense, monkeypatch):
    monkeypatch.setattr("palate.adapters.taste.solve.DENSE", dense)
    given_ = everything()
    model = BradleyTerry(variance).fit(**given_)
    found = minimize(
        lambda w: stated(w, **given_, variance=variance), np.zeros(4), method="BFGS", options={"gtol": 1e-9}
    )
    np.testing.assert_allclose(model.weights_, found.x, atol=1e-5)
    assert stated(model.weights_, **given_, variance=variance) <= found.fun + 1e-10


@given(st.integers(0, 50), st.floats(0.1, 5.0))
@settings(deadline=None, max_examples=20)
def test_derivatives_are_finite_differences(seed, size):
    likelihood = to_likelihood(4, **everything(seed))
    z, h = size * np.random.default_rng(seed).standard_normal(len(likelihood.differences)), 1e-5
    steps = h * np.eye(len(z))
    numeric = [(likelihood.value(z + e) - likelihood.value(z - e)) / (2 * h) for e in steps]
    np.testing.assert_allclose(likelihood.gradient(z), numeric, atol=1e-7)
    second = [(likelihood.gradient(z + e) - likelihood.gradient(z - e)) / (2 * h) for e in steps]
    np.testing.assert_allclose(likelihood.curvature(z).times(np.eye(len(z))), np.array(second).T, atol=1e-7)


def test_the_best_of_two_is_a_pair():
    chosen, rejected = vectors(0, 6, 4), vectors(1, 6, 4)
    pairs = BradleyTerry().fit(chosen, rejected)
    choices = BradleyTerry().fit(NONE, NONE, choices=np.stack([chosen, rejected], axis=1))
    np.testing.assert_allclose(choices.weights_, pairs.weights_, atol=1e-7)
    assert choices.log_evidence() == pytest.approx(pairs.log_evidence(), abs=1e-7)


def test_an_order_is_a_choice_at_every_stage():
    order = vectors(0, 4, 4)
    whole = BradleyTerry().fit(NONE, NONE, orderings=[order])
    stages = BradleyTerry().fit(NONE, NONE, choices=[order, order[1:], order[2:]])
    np.testing.assert_allclose(whole.weights_, stages.weights_, atol=1e-7)
    np.testing.assert_allclose(
        whole.utility_covariance(np.eye(4)), stages.utility_covariance(np.eye(4)), rtol=1e-6, atol=1e-9
    )


def test_the_order_of_the_others_does_not_matter():
    images = vectors(0, 4, 4)
    model, other = (BradleyTerry().fit(NONE, NONE, choices=[images[order]]) for order in ([0, 1, 2, 3], [0, 3, 1, 2]))
    np.testing.assert_allclose(model.weights_, other.weights_, atol=1e-7)


def test_a_weight_of_two_is_the_answer_twice():
    given_ = everything()
    twice = {
        **given_,
        "orderings": given_["orderings"] + given_["orderings"][:1],
        "choices": given_["choices"] + given_["choices"][1:2],
        "sample_weight": None,
    }
    weight = np.ones(11)
    weight[5] = weight[9] = 2.0  # after three comparisons and two ties: the first ordering, and the second choice
    model = BradleyTerry().fit(**{**given_, "sample_weight": weight})
    np.testing.assert_allclose(model.weights_, BradleyTerry().fit(**twice).weights_, atol=1e-7)


def test_weights_of_the_comparisons_alone_leave_the_others_at_one():
    given_ = everything()
    weight = np.array([0.5, 2.0, 0.0])
    short = BradleyTerry().fit(**{**given_, "sample_weight": weight})
    full = BradleyTerry().fit(**{**given_, "sample_weight": np.concatenate([weight, np.ones(8)])})
    np.testing.assert_array_equal(short.weights_, full.weights_)


@pytest.mark.parametrize("size", [1e3, 1e6])
def test_decided_choices_stay_finite(size):
    model = BradleyTerry().fit(NONE, NONE, choices=[size * vectors(0, 4, 4)] * 3)
    assert np.isfinite(model.weights_).all() and np.isfinite(model.utility_variance(np.eye(4))).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"choices": [np.ones((1, 4))]}, r"`choices\[0\]`: found 1 image"),
        ({"choices": [np.ones((3, 2))]}, r"`choices\[0\]`: its vectors have width 2; expected 4"),
        ({"choices": [np.full((3, 4), np.nan)]}, r"`choices\[0\]`: row 0 holds NaN"),
        ({"choices": [np.ones((3, 4))], "sample_weight": np.ones(3)}, r"found shape \(3,\); expected \(0,\) or \(1,\)"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(ShapeError, match=message):
        BradleyTerry().fit(NONE, NONE, **arguments)


def test_choices_alone_say_how_wide_the_vectors_are():
    assert BradleyTerry().fit([], [], choices=[vectors(0, 3, 4)]).n_features_in_ == 4
