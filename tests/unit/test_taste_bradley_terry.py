"""The learner against direct numerical minimisation of its stated objective, and against dense algebra."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from palate.adapters.errors import NotFittedError, ShapeError
from palate.adapters.taste import BradleyTerry
from scipy.optimize import minimize


def vectors(seed, *shape, scale=1.0):
    return scale * np.random.default_rng(seed).standard_normal(shape)


def objective(weights, chosen, rejected, ties, orderings, mean, precision, sample_weight):
    """The objective of BradleyTerry's docstring, written as it stands there."""

    def loss(z):
        return np.logaddexp(0, -z)

    total = float(sample_weight @ loss((chosen - rejected) @ weights))
    if ties is not None:
        z = (ties[0] - ties[1]) @ weights
        total += 0.5 * float((loss(z) + loss(-z)).sum())
    for ranking in orderings:
        utility = ranking @ weights
        for stage in range(len(utility) - 1):
            total += np.logaddexp.reduce(utility[stage:]) - utility[stage]
    return total + 0.5 * float((weights - mean) @ precision @ (weights - mean))


def minimum(width, chosen, rejected, ties=None, orderings=(), mean=None, precision=None, sample_weight=None):
    mean = np.zeros(width) if mean is None else mean
    precision = np.eye(width) if precision is None else precision
    weight = np.ones(len(chosen)) if sample_weight is None else sample_weight
    arguments = (chosen, rejected, ties, orderings, mean, precision, weight)
    w = minimize(objective, mean, args=arguments, method="BFGS", options={"gtol": 1e-6}).x
    # Polish with Newton steps on a finite-difference Hessian of the same objective.
    for _ in range(4):
        gradient, hessian = derivatives(lambda x: objective(x, *arguments), w)
        w = w - np.linalg.solve(hessian, gradient)
    return w


def derivatives(f, x, h=1e-3):
    """Gradient and Hessian by central differences of fourth and second order."""
    size, eye = len(x), np.eye(len(x)) * h
    gradient = np.array([(8 * (f(x + e) - f(x - e)) - (f(x + 2 * e) - f(x - 2 * e))) / (12 * h) for e in eye])
    hessian = np.zeros((size, size))
    for i, j in itertools.product(range(size), repeat=2):
        if j <= i:
            a, b = eye[i], eye[j]
            hessian[i, j] = hessian[j, i] = (f(x + a + b) - f(x + a - b) - f(x - a + b) + f(x - a - b)) / (4 * h * h)
    return gradient, hessian


def test_one_pair_by_hand():
    """One pair, chosen - rejected = 1, variance 1: w = sigmoid(-w), so w = 0.4010581375..."""
    model = BradleyTerry(1.0).fit([[1.0]], [[0.0]])
    w = float(model.weights_[0])
    assert w == pytest.approx(1 / (1 + np.exp(w)), abs=1e-9)
    # Hessian = 1 + p (1 - p) with p = sigmoid(w) = 1 - w.
    assert model.utility_variance([[2.0]])[0] == pytest.approx(4 / (1 + w * (1 - w)), abs=1e-9)


@pytest.mark.parametrize(("count", "width"), [(3, 6), (6, 3), (40, 4)])
@pytest.mark.parametrize("variance", [0.1, 1.0, 30.0])
def test_pairs_equal_direct_minimisation(count, width, variance):
    chosen, rejected = vectors(0, count, width), vectors(1, count, width)
    model = BradleyTerry(variance).fit(chosen, rejected)
    expected = minimum(width, chosen, rejected, precision=np.eye(width) / variance)
    np.testing.assert_allclose(model.weights_, expected, atol=1e-6)


def test_everything_at_once_equals_direct_minimisation():
    width = 4
    spread = vectors(9, width, width)
    covariance = spread @ spread.T + 0.3 * np.eye(width)
    orderings = [vectors(20, 3, width), vectors(21, 4, width), vectors(22, 3, width), vectors(23, 2, width)]
    given_ = {
        "chosen": vectors(0, 5, width),
        "rejected": vectors(1, 5, width),
        "ties": (vectors(2, 3, width), vectors(3, 3, width)),
        "orderings": orderings,
        "sample_weight": np.array([0.0, 0.5, 1.0, 2.0, 3.0]),
    }
    mean = vectors(4, width)
    model = BradleyTerry().fit(**given_, prior_mean=mean, prior_covariance=covariance)
    expected = minimum(width, **given_, mean=mean, precision=np.linalg.inv(covariance))
    np.testing.assert_allclose(model.weights_, expected, atol=1e-6)


@pytest.mark.parametrize(("count", "width", "dense"), [(3, 30, 200), (40, 12, 200), (40, 12, 2), (3, 30, 2)])
def test_the_three_solvers_agree_with_a_dense_newton(count, width, dense, monkeypatch):
    """In the span of few answers, in few dimensions, and by conjugate gradients (2: nothing counts as few)."""
    monkeypatch.setattr("palate.adapters.taste.solve.DENSE", dense)
    chosen, rejected = vectors(0, count, width), vectors(1, count, width)
    ties = (vectors(2, 5, width), vectors(3, 5, width))
    orderings = vectors(4, 6, 3, width)
    model = BradleyTerry(4.0).fit(chosen, rejected, ties=ties, orderings=orderings)

    def loss(w):
        u = torch.from_numpy(orderings) @ w
        ranking = sum((torch.logsumexp(u[:, s:], 1) - u[:, s]).sum() for s in range(2))
        z, t = torch.from_numpy(chosen - rejected) @ w, torch.from_numpy(ties[0] - ties[1]) @ w
        soft = torch.nn.functional.softplus
        return soft(-z).sum() + 0.5 * (soft(-t) + soft(t)).sum() + ranking + w @ w / 8

    w = torch.from_numpy(model.weights_)
    gradient = torch.autograd.functional.jacobian(loss, w)
    hessian = torch.autograd.functional.hessian(loss, w)
    # The objective is convex with curvature 1/4 at least: |w - optimum| <= 4 |gradient|.
    assert 4 * gradient.norm() < 4e-7
    asked = vectors(5, 4, width)
    expected = asked @ torch.linalg.inv(hessian).numpy() @ asked.T
    np.testing.assert_allclose(model.utility_covariance(asked), expected, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(model.utility_variance(asked), np.diag(expected), rtol=1e-6)


@pytest.mark.parametrize("dense", [200, 2])
def test_many_answers_end_where_newton_on_all_of_them_does(dense, monkeypatch):
    """Their start is a guess from every eighth, which here all say the opposite of the others."""
    monkeypatch.setattr("palate.adapters.taste.solve.DENSE", dense)
    chosen, rejected = vectors(0, 5000, 6), vectors(1, 5000, 6)
    up = (chosen - rejected) @ np.ones(6) > 0
    up[::8] = ~up[::8]
    chosen, rejected = np.where(up[:, None], chosen, rejected), np.where(up[:, None], rejected, chosen)
    ties = vectors(2, 40, 6), vectors(3, 40, 6)
    weight = np.linspace(0.0, 2.0, 5000)
    found = BradleyTerry(4.0).fit(chosen, rejected, ties=ties, sample_weight=weight).weights_
    given = {"chosen": chosen, "rejected": rejected, "ties": ties, "sample_weight": weight}
    np.testing.assert_allclose(found, minimum(6, **given, precision=np.eye(6) / 4.0), atol=1e-6)


def test_variance_under_a_full_prior_equals_the_dense_inverse():
    width, count = 5, 3
    spread = vectors(9, width, width)
    covariance = spread @ spread.T + 0.1 * np.eye(width)
    chosen, rejected = vectors(0, count, width), vectors(1, count, width)
    model = BradleyTerry().fit(chosen, rejected, prior_covariance=covariance)
    d = chosen - rejected
    p = model.predict_proba(chosen, rejected)
    dense = np.linalg.inv(np.linalg.inv(covariance) + d.T @ (d * (p * (1 - p))[:, None]))
    asked = vectors(5, 6, width)
    np.testing.assert_allclose(model.utility_variance(asked), np.diag(asked @ dense @ asked.T), rtol=1e-7)


def test_a_large_fit_ends_below_the_promised_gradient():
    chosen, rejected = vectors(0, 300, 210, scale=0.07), vectors(1, 300, 210, scale=0.07)
    for variance in (0.01, 1.0, 1000.0):
        model = BradleyTerry(variance).fit(chosen, rejected)
        d, w = chosen - rejected, model.weights_
        gradient = -d.T @ (1 / (1 + np.exp(d @ w))) + w / variance
        assert np.linalg.norm(gradient) < 1e-6


def test_no_comparisons_gives_the_prior_back():
    mean = vectors(0, 3)
    model = BradleyTerry(2.0).fit(np.zeros((0, 3)), np.zeros((0, 3)), prior_mean=mean)
    np.testing.assert_array_equal(model.weights_, mean)
    np.testing.assert_allclose(model.utility_variance(np.eye(3)), [2.0, 2.0, 2.0])
    assert model.log_evidence() == 0.0
    assert not BradleyTerry().fit([], [], prior_mean=np.zeros(4)).weights_.any()


def test_a_hundred_identical_comparisons_equal_one_of_weight_hundred():
    chosen, rejected = vectors(0, 1, 8), vectors(1, 1, 8)
    many = BradleyTerry().fit(np.repeat(chosen, 100, 0), np.repeat(rejected, 100, 0))
    one = BradleyTerry().fit(chosen, rejected, sample_weight=[100.0])
    np.testing.assert_allclose(many.weights_, one.weights_, atol=1e-8)


def test_one_sided_answers_stay_finite():
    """All answers agree: without the prior the weights would run away."""
    direction = vectors(0, 10)
    x = vectors(1, 200, 10, scale=100.0)
    flip = (x @ direction < 0)[:, None]
    model = BradleyTerry(1e4).fit(np.where(flip, -x, x), np.where(flip, x, -x))
    assert np.isfinite(model.weights_).all()
    assert (model.log_odds(np.where(flip, -x, x), np.where(flip, x, -x)) > 0).all()


def test_huge_vectors_are_fitted_too():
    """1e25 is too large for the float32 solver, which must hand over."""
    chosen, rejected = vectors(0, 250, 230, scale=1e25), vectors(1, 250, 230, scale=1e25)
    assert np.isfinite(BradleyTerry(1e-50).fit(chosen, rejected).weights_).all()


def test_a_tie_pulls_neither_way_and_makes_surer():
    left, right = vectors(0, 1, 4), vectors(1, 1, 4)
    empty = np.zeros((0, 4))
    model = BradleyTerry().fit(empty, empty, ties=(left, right))
    np.testing.assert_allclose(model.weights_, 0.0, atol=1e-12)
    assert model.utility_variance(left - right)[0] < BradleyTerry().fit(empty, empty).utility_variance(left - right)[0]


def test_a_ranking_of_two_is_a_pair():
    a, b = vectors(0, 4, 3), vectors(1, 4, 3)
    empty = np.zeros((0, 3))
    ranked = BradleyTerry().fit(empty, empty, orderings=np.stack([a, b], axis=1))
    np.testing.assert_allclose(ranked.weights_, BradleyTerry().fit(a, b).weights_, atol=1e-8)


def test_evidence_is_the_integral_over_the_weights():
    """In one dimension the integral can be done by numbers; Laplace is good where the posterior is narrow."""
    d = np.array([1.0, 0.5, -0.8, 0.3, 0.2, -0.4] * 6)[:, None]
    w = np.linspace(-12, 12, 20001)
    log_joint = -np.logaddexp(0, -d * w).sum(0) - 0.5 * w**2 / 3.0 - 0.5 * np.log(2 * np.pi * 3.0)
    exact = np.log(np.exp(log_joint).sum() * (w[1] - w[0]))
    assert BradleyTerry(3.0).fit(d, 0 * d).log_evidence() == pytest.approx(exact, abs=0.02)


def test_torch_in_torch_out_and_the_same_numbers():
    chosen, rejected = vectors(0, 6, 5), vectors(1, 6, 5)
    numpy_model = BradleyTerry().fit(chosen, rejected)
    model = BradleyTerry().fit(torch.from_numpy(chosen).requires_grad_(), torch.from_numpy(rejected))
    assert isinstance(model.weights_, torch.Tensor)
    assert model.weights_.dtype == torch.float64
    np.testing.assert_array_equal(model.weights_.numpy(), numpy_model.weights_)
    x = torch.from_numpy(chosen).float()
    assert isinstance(model.utility(x), torch.Tensor)
    assert isinstance(numpy_model.utility(chosen), np.ndarray)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 12))
def test_probabilities_of_both_sides_add_to_one_and_swapping_negates(seed, count, width):
    left, right = vectors(seed, count, width), vectors(seed + 1, count, width)
    model = BradleyTerry().fit(left, right)
    both = model.predict_proba(left, right) + model.predict_proba(right, left)
    np.testing.assert_allclose(both, 1.0)
    np.testing.assert_array_equal(model.log_odds(left, right), -model.log_odds(right, left))
    np.testing.assert_allclose(model.predict_proba(left, right), 1 / (1 + np.exp(-model.log_odds(left, right))))
    np.testing.assert_allclose(BradleyTerry().fit(right, left).weights_, -model.weights_, atol=1e-7)


def test_inputs_are_left_alone():
    chosen, rejected = vectors(0, 300, 210), vectors(1, 300, 210)
    before = chosen.copy(), rejected.copy()
    BradleyTerry(7.0).fit(chosen, rejected)
    np.testing.assert_array_equal(chosen, before[0])
    np.testing.assert_array_equal(rejected, before[1])


def with_nan(shape):
    array = np.ones(shape)
    array[1] = np.nan
    return array


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"chosen": with_nan((3, 2)), "rejected": np.ones((3, 2))}, "`chosen`: row 1 holds NaN"),
        ({"chosen": np.ones((3, 2)), "rejected": np.full((3, 2), np.inf)}, "`rejected`: row 0 holds infinity"),
        ({"chosen": np.full((3, 2), np.inf), "rejected": np.full((3, 2), np.inf)}, "`chosen`: row 0 holds infinity"),
        ({"chosen": np.ones((3, 2)), "rejected": np.ones((3, 4))}, "`rejected`: its vectors have width 4; expected 2"),
        ({"chosen": np.ones((3, 2)), "rejected": np.ones((2, 2))}, "3 vectors, `rejected` has 2"),
        ({"chosen": np.ones(3), "rejected": np.ones(3)}, r"found shape \(3,\)"),
        ({"chosen": [], "rejected": []}, "no vector says how wide"),
        ({"chosen": [["a"]], "rejected": [["b"]]}, "not a table of numbers"),
        ({"ties": (with_nan((2, 2)), np.ones((2, 2)))}, r"`ties\[0\]`: row 1 holds NaN"),
        ({"ties": np.ones((3, 2, 2))}, "expected two"),
        ({"orderings": [np.ones((3, 2)), with_nan((3, 2))]}, r"`orderings\[1\]`: row 1 holds NaN"),
        ({"orderings": [np.ones((1, 2))]}, "expected two or more"),
        ({"prior_mean": np.ones(3)}, r"`prior_mean`: found shape \(3,\); expected \(2,\)"),
        ({"prior_covariance": np.ones((2, 3))}, "`prior_covariance`: found shape"),
        ({"prior_covariance": -np.eye(2)}, "not positive definite"),
        ({"sample_weight": np.ones(2)}, "`sample_weight`: found shape"),
        ({"sample_weight": -np.ones(3)}, "negative"),
        ({"sample_weight": with_nan(3)}, "`sample_weight`: row 1 holds NaN"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(ShapeError, match=message):
        BradleyTerry().fit(**({"chosen": np.ones((3, 2)), "rejected": np.zeros((3, 2))} | arguments))


def test_bad_variance_unfitted_use_and_wrong_width_are_named():
    with pytest.raises(ShapeError, match="prior_variance = 0"):
        BradleyTerry(0).fit(np.ones((1, 1)), np.zeros((1, 1)))
    with pytest.raises(NotFittedError, match="has not learned yet"):
        BradleyTerry().utility(np.ones((1, 2)))
    model = BradleyTerry().fit(np.ones((1, 2)), np.zeros((1, 2)))
    with pytest.raises(ShapeError, match=r"found shape \(1, 3\)"):
        model.utility(np.ones((1, 3)))
    with pytest.raises(ShapeError, match="holds NaN"):
        model.utility(np.full((1, 2), np.nan))
    with pytest.raises(ShapeError, match="1 vectors on the left"):
        model.log_odds(np.ones((1, 2)), np.ones((2, 2)))


def test_scikit_learn_manners():
    from sklearn.base import clone

    model = BradleyTerry(3.0)
    assert model.get_params() == {"prior_variance": 3.0}
    assert clone(model).prior_variance == 3.0
    assert model.set_params(prior_variance=2.0) is model
    assert model.fit(np.ones((1, 2)), np.zeros((1, 2))) is model
    assert repr(model) == "BradleyTerry(prior_variance=2.0)"
    with pytest.raises(TypeError, match="prior_variance only"):
        model.set_params(alpha=1.0)


def test_the_optimum_is_that_of_logistic_regression_with_c_equal_to_the_variance():
    """Pins the unit of prior_variance: C, not 1 / (2 C)."""
    from sklearn.linear_model import LogisticRegression

    chosen, rejected = vectors(0, 30, 4), vectors(1, 30, 4)
    sign = np.where(np.arange(30) % 2, 1, -1)
    reference = LogisticRegression(C=2.5, fit_intercept=False, tol=1e-10, max_iter=1000)
    reference.fit((chosen - rejected) * sign[:, None], sign)
    np.testing.assert_allclose(BradleyTerry(2.5).fit(chosen, rejected).weights_, reference.coef_[0], atol=1e-5)
