"""Which sets to show and what to generate next: what teaches, what is far apart, and never one picture twice."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from palate.adapters.errors import ShapeError
from palate.adapters.taste import BradleyTerry, choose_pair, choose_set, worth_asking
from palate.adapters.taste.gain import gain_beside


def vectors(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def fitted(seed=0, count=10, width=6, variance=1.0):
    return BradleyTerry(variance).fit(vectors(seed, count, width), vectors(seed + 1, count, width))


def nearest(candidates, chosen):
    some = candidates[list(chosen)]
    distance = np.linalg.norm(some[:, None] - some[None, :], axis=-1)
    return distance[np.triu_indices(len(some), 1)].min()


def set_gain(model, some):
    """1/2 log det(I + H K) as it is written, for one set (k, D)."""
    utility, covariance = model.utility(some), model.utility_covariance(some)
    middle = np.eye(len(some)) - 1 / len(some)
    own = np.diag(middle @ covariance @ middle)
    share = np.exp((utility - utility.mean()) / np.sqrt(1 + np.pi / 8 * own))
    share /= share.sum()
    return 0.5 * np.linalg.slogdet(np.eye(len(some)) + (np.diag(share) - np.outer(share, share)) @ covariance)[1]


def test_gain_of_a_pair_by_hand():
    """Even odds, variance 3 of the difference: H K has the one eigenvalue p (1 - p) 3, so 1/2 log(1 + 3 / 4)."""
    found = gain_beside(np.zeros(2), np.array([1.0, 2.0]), np.array([[1.0], [0.0]]), [0])
    assert found == pytest.approx([0.0, 0.5 * np.log(1.75)])


@pytest.mark.parametrize("others", [[4], [1, 5], [2, 0, 7], list(range(15))])
def test_gain_of_a_set_is_the_determinant(others):
    """For every candidate beside the others; also one that is almost never picked, and one that is there twice."""
    model, candidates = fitted(count=40, variance=9.0), 3.0 * vectors(3, 20, 6)
    candidates[18] = candidates[others[0]]
    candidates[19] *= 20
    covariance = model.utility_covariance(candidates)
    found = gain_beside(model.utility(candidates), np.diag(covariance), covariance[:, others], others)
    wanted = [set_gain(model, candidates[[*others, k]]) for k in range(20)]
    assert found == pytest.approx(wanted, abs=1e-5)


def test_a_pair_is_nearly_the_pair_and_a_set_begins_with_it():
    model, candidates = fitted(), vectors(3, 30, 6)
    assert set(choose_set(model, candidates, 2)) & set(choose_pair(model, candidates))


def test_four_teach_more_than_four_by_chance():
    model, candidates = fitted(width=12), vectors(3, 60, 12)

    drawn = [np.random.default_rng(seed).choice(60, 4, replace=False) for seed in range(200)]
    by_chance = [set_gain(model, candidates[chosen]) for chosen in drawn]
    assert set_gain(model, candidates[list(choose_set(model, candidates))]) > max(by_chance)


@pytest.mark.parametrize(("width", "answers"), [(12, 30), (96, 20), (96, 300), (96, 500)])
def test_among_thousands_a_set_teaches_as_much_as_one_from_600_looked_at_exactly(width, answers):
    """The same search in the whole covariance of 600 candidates, the best pair among them, is what it was before."""
    model, candidates = fitted(count=answers, width=width, variance=2.0), vectors(5, 3000, width).astype(np.float32)
    pair = choose_pair(model, candidates)
    others = np.setdiff1d(np.arange(3000), pair)
    some = candidates[[*pair, *np.random.default_rng(0).choice(others, 598, replace=False)]]
    covariance = model.utility_covariance(some)
    chosen = [0, 1]
    for k in range(10):
        beside = chosen if k < 2 else chosen[1:]
        gain = gain_beside(model.utility(some), np.diag(covariance), covariance[:, beside], beside)
        gain[beside] = -1
        chosen = [*beside, int(np.argmax(gain))]
    found = candidates[list(choose_set(model, candidates))]
    assert set_gain(model, found) > 0.97 * set_gain(model, some[chosen])


@pytest.mark.parametrize("size", [3, 4, 9])
@pytest.mark.parametrize("count", [9, 40, 900])
def test_sets_have_as_many_different_pictures_as_asked_for(size, count):
    for taste in (None, fitted()):
        chosen = choose_set(taste, vectors(2, count, 6), size)
        assert len(set(chosen)) == size
        assert all(type(k) is int and 0 <= k < count for k in chosen)


def test_shots_of_one_picture_are_not_shown_together():
    three = 3.0 * np.eye(6)[:4]
    candidates = three[np.arange(80) % 4] + 0.01 * vectors(1, 80, 6)
    for diversity in (0.0, 0.5, 1.0):
        assert {k % 4 for k in choose_set(fitted(), candidates, diversity=diversity)} == {0, 1, 2, 3}


def test_more_diversity_is_farther_apart_and_teaches_less():
    model, candidates = fitted(count=40), vectors(4, 200, 6) * np.array([3.0, 1, 1, 1, 1, 1])
    sets = [choose_set(model, candidates, diversity=d) for d in (0.0, 1.0)]
    apart = [nearest(candidates, chosen) for chosen in sets]
    gains = [set_gain(model, candidates[list(chosen)]) for chosen in sets]
    assert apart[1] > 1.2 * apart[0]
    assert gains[0] > gains[1]


@pytest.mark.parametrize("count", [12, 900])
def test_excluded_pairs_are_kept_apart(count):
    model, candidates = fitted(), vectors(3, count, 6)
    pairs = {(0, count), (-1, 3)}  # others' indices do no harm
    for _ in range(3):
        chosen = choose_set(model, candidates, exclude=pairs)
        assert not {(i, j) for i in chosen for j in chosen} & pairs
        pairs |= {(i, j) for i in chosen for j in chosen if i < j}


def test_all_excluded_is_no_dead_end():
    model, candidates = fitted(), vectors(3, 12, 6)
    every = {(i, j) for i in range(4) for j in range(i + 1, 4)}
    assert sorted(choose_set(model, candidates[:4], exclude=every)) == [0, 1, 2, 3]


def test_the_same_set_again_unless_nothing_was_learned():
    candidates = vectors(0, 900, 6)
    assert choose_set(fitted(), candidates) == choose_set(fitted(), candidates)
    numbers = [choose_set(None, candidates, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert numbers[0] == numbers[1] != numbers[2]


def test_prompts_that_differ_where_nothing_is_known_are_worth_generating():
    """Pictures of prompt 0 differ along the first axis, which was asked about 40 times; those of prompt 1 elsewhere."""
    e = np.eye(3)
    model = BradleyTerry().fit(np.repeat(e[:1], 40, 0), np.zeros((40, 3)))
    prompts = [np.stack([0 * e[0], e[0], 0.5 * e[0]]), np.stack([0 * e[1], e[1]]), np.stack([0 * e[2], 0.9 * e[2]])]
    assert worth_asking(model, prompts) == (1, 2, 0)
    assert worth_asking(model, prompts, count=1) == (1,)


def test_the_second_option_is_not_the_first_one_again():
    """Options 0 and 1 are nearly the same and teach most; after the first of them, the third teaches more."""
    e = np.eye(4)
    options = [np.stack([0 * e[0], far]) for far in (5 * e[0], 5 * e[0] + 0.1 * e[3], 4 * e[1], 0.1 * e[2])]
    assert set(worth_asking(None, options)[:2]) in ({0, 2}, {1, 2})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: choose_set(fitted(), vectors(0, 3, 6), 4), "found 3 candidate"),
        (lambda: choose_set(fitted(), vectors(0, 3, 6), 1), "for a set of 1"),
        (lambda: choose_set(fitted(), vectors(0, 5, 6), diversity=1.5), "diversity 1.5"),
        (lambda: choose_set(fitted(), vectors(0, 5, 4)), "width 4; expected 6"),
        (lambda: choose_set(fitted(), vectors(0, 500, 4)), "width 4; expected 6"),
        (lambda: worth_asking(fitted(), []), "without vectors"),
        (lambda: worth_asking(fitted(), [vectors(0, 2, 6), vectors(0, 2, 5)]), "width 5"),
        (lambda: worth_asking(fitted(), np.full((2, 6), np.nan)), r"options\[0\]"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ShapeError, match=message):
        call()
