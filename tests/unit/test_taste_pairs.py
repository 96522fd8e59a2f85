"""Which pair to ask: the gain against numerical integration, and what each strategy must and must not return."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from palate.adapters.errors import ShapeError
from palate.adapters.taste import BradleyTerry, choose_pair
from palate.adapters.taste.covariance import Stretch
from palate.adapters.taste.gain import information_gain


def vectors(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def fitted(seed=0, count=10, width=6, variance=1.0):
    return BradleyTerry(variance).fit(vectors(seed, count, width), vectors(seed + 1, count, width))


def entropy(p):
    p = np.clip(p, 1e-300, 1 - 1e-16)
    return -p * np.log(p) - (1 - p) * np.log1p(-p)


@pytest.mark.parametrize("log_odds", [0.0, 0.7, -2.0, 4.0, 8.0])
@pytest.mark.parametrize("deviation", [0.05, 0.5, 1.5, 4.0, 8.0])
def test_gain_is_the_mutual_information(log_odds, deviation):
    z = np.linspace(-9, 9, 20001)
    weight = np.exp(-0.5 * z * z)
    weight /= weight.sum()
    p = 1 / (1 + np.exp(-(log_odds + deviation * z)))
    exact = entropy(weight @ p) - weight @ entropy(p)
    found = information_gain(np.array(log_odds), np.array(deviation**2))
    assert found == pytest.approx(exact, abs=2e-3)


def test_gain_asks_about_the_direction_nobody_asked_about():
    """Ten answers along the first axis: a pair that differs along the second teaches more."""
    e = np.eye(3)
    model = BradleyTerry().fit(np.repeat(e[:1], 10, 0), np.zeros((10, 3)))
    candidates = np.stack([0 * e[0], e[0], e[1], e[1] + 1e-9])
    assert choose_pair(model, candidates) in {(0, 2), (0, 3)} | {(1, 2), (1, 3)}
    assert choose_pair(model, candidates[[0, 1, 2]], exclude={(1, 2)}) == (0, 2)


def test_uncertainty_asks_for_the_pair_nearest_to_even_but_not_twice_the_same_picture():
    model = BradleyTerry.from_posterior(np.array([1.0]), 1.0)
    candidates = np.array([[0.0], [0.0], [3.0], [0.5]])
    assert choose_pair(model, candidates, "uncertainty") == (0, 3)
    assert choose_pair(model, candidates[:2], "uncertainty") == (0, 1)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), st.integers(2, 7), st.sampled_from(["information_gain", "random", "uncertainty"]))
def test_every_pair_comes_once_when_the_asked_ones_are_excluded(seed, count, strategy):
    candidates = torch.from_numpy(vectors(seed, count, 6))
    asked = set()
    for _ in range(count * (count - 1) // 2):
        i, j = choose_pair(fitted(seed), candidates, strategy, exclude={(j, i) for i, j in asked})
        assert 0 <= i < j < count
        assert (i, j) not in asked
        asked.add((i, j))
    with pytest.raises(ShapeError, match="all pairs of the"):
        choose_pair(fitted(seed), candidates, strategy, exclude=asked)


def test_a_taste_that_has_not_learned_asks_at_random():
    pairs = [
        choose_pair(taste, vectors(0, 5, 6), generator=torch.Generator().manual_seed(3))
        for taste in (None, BradleyTerry())
    ]
    assert pairs[0] == pairs[1]
    seen = {choose_pair(None, vectors(0, 3, 6), generator=torch.Generator().manual_seed(s)) for s in range(40)}
    assert seen == {(0, 1), (0, 2), (1, 2)}


def test_gain_learns_faster_than_random():
    """Twelve questions about a known taste: what is left unknown of the candidates is less than after random ones."""
    candidates = vectors(0, 30, 12)
    truth = vectors(1, 12)
    left_over = {}
    for strategy in ("information_gain", "random"):
        asked, model = [], None
        generator = torch.Generator().manual_seed(0)
        for _ in range(12):
            i, j = choose_pair(model, candidates, strategy, exclude=set(asked), generator=generator)
            asked.append((i, j))
            pair = sorted((i, j), key=lambda k: -candidates[k] @ truth)
            rows = [sorted(p, key=lambda k: -candidates[k] @ truth) for p in asked]
            model = BradleyTerry().fit(candidates[[r[0] for r in rows]], candidates[[r[1] for r in rows]])
            assert pair in rows
        left_over[strategy] = float(model.utility_variance(candidates).mean())
    assert left_over["information_gain"] < left_over["random"]


def gain_of(model, candidates, i, j):
    difference = candidates[i : i + 1] - candidates[j : j + 1]
    return float(
        information_gain(
            model.log_odds(candidates[i : i + 1], candidates[j : j + 1]), model.utility_variance(difference)
        )[0]
    )


@pytest.mark.parametrize(("width", "answers"), [(12, 30), (96, 20), (96, 300), (96, 500)])
def test_among_thousands_it_finds_nearly_the_best_pair(width, answers):
    """Against all pairs of the first 600 candidates: nowhere is there much more to be learned than what it found."""
    model = fitted(count=answers, width=width, variance=2.0)
    candidates = vectors(5, 2000, width)
    i, j = choose_pair(model, candidates)
    some = candidates[:600]
    own, covariance = model.utility_variance(some), model.utility_covariance(some)
    log_odds = model.utility(some)[:, None] - model.utility(some)[None, :]
    best = information_gain(log_odds, np.maximum(own[:, None] + own[None, :] - 2 * covariance, 0)).max()
    assert i < j
    assert gain_of(model, candidates, i, j) > 0.93 * best


@pytest.mark.parametrize("kind", ["full", "stretch"])
def test_among_thousands_it_knows_where_the_prior_is_wide(kind):
    """Nothing is unknown but along the first axis: the two candidates farthest apart along it are asked about."""
    shares = np.full(7, 1e-6)
    covariance = np.diag([1.0, *shares]) if kind == "full" else Stretch(1.0, np.eye(8)[1:], shares)
    candidates = vectors(5, 500, 8)
    model = BradleyTerry().fit(vectors(0, 3, 8), vectors(1, 3, 8), prior_covariance=covariance, prior_mean=np.zeros(8))
    assert gain_of(model, candidates, *choose_pair(model, candidates)) > 0.97 * max(
        gain_of(model, candidates, i, j) for i, j in np.argsort(candidates[:, 0])[[[0, -1], [1, -1], [0, -2], [2, -2]]]
    )


def test_among_thousands_it_keeps_to_the_rules_and_repeats_itself():
    model, candidates = fitted(), vectors(5, 1000, 6)
    for strategy in ("information_gain", "uncertainty", "random"):
        asked = set()
        for _ in range(10):
            pairs = [
                choose_pair(model, candidates, strategy, asked, generator=torch.Generator().manual_seed(1))
                for _ in range(2)
            ]
            assert pairs[0] == pairs[1]
            assert pairs[0] not in asked
            asked.add(pairs[0])
    assert choose_pair(model, candidates) == choose_pair(model, candidates)
    i, j = choose_pair(model, candidates, "uncertainty")
    assert abs(model.utility(candidates)[i] - model.utility(candidates)[j]) < 1e-4


def test_memory_does_not_grow_with_all_pairs():
    model, candidates = fitted(width=16, variance=1.0), vectors(5, 6000, 16).astype(np.float32)
    for strategy in ("information_gain", "uncertainty", "random"):
        tracemalloc.start()
        choose_pair(model, candidates, strategy)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 6000 * 6000  # bytes: an eighth of a table of all pairs in float64


@pytest.mark.parametrize("count", [40, 400])
@pytest.mark.parametrize("strategy", ["information_gain", "uncertainty"])
def test_near_duplicates_are_asked_about_only_when_nothing_else_is_left(count, strategy):
    """Forty or four hundred shots of three pictures: two of one picture are never the two that are asked about."""
    three = 3.0 * np.eye(6)[:3]
    candidates = three[np.arange(count) % 3] + 0.01 * vectors(1, count, 6)
    for seed in range(4):
        i, j = choose_pair(fitted(seed), candidates, strategy)
        assert i % 3 != j % 3
    i, j = choose_pair(fitted(), candidates[[0, 3, 3]], strategy)  # three shots of the first, two of them equal
    assert (i, j) in {(0, 1), (0, 2)}


@pytest.mark.parametrize("count", [30, 3000])
@pytest.mark.parametrize("strategy", ["information_gain", "uncertainty", "random"])
def test_one_picture_many_times_and_one_other(count, strategy):
    candidates = np.ones((count, 6))
    assert len(set(choose_pair(fitted(), candidates, strategy))) == 2  # nothing else is there
    candidates[count // 2] = 0.0
    assert count // 2 in choose_pair(fitted(), candidates, strategy, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("candidates", "strategy", "message"),
    [
        (np.zeros((1, 6)), "random", "found 1 candidate"),
        (np.zeros((0, 6)), "random", "found 0 candidate"),
        (np.full((3, 6), np.nan), "random", "`candidates`: row 0 holds NaN"),
        (np.zeros((3, 5)), "information_gain", "width 5; expected 6"),
        (np.zeros((400, 5)), "uncertainty", "width 5; expected 6"),
        (np.zeros((3, 6)), "clever", "strategy 'clever'"),
        (np.zeros(6), "random", r"found shape \(6,\)"),
    ],
)
def test_bad_input_is_named(candidates, strategy, message):
    with pytest.raises(ShapeError, match=message):
        choose_pair(fitted(), candidates, strategy)
