"""'Both bad' as a level: by hand, against the outside option written out, and only where the answers bear it out."""

from __future__ import annotations

import numpy as np
import pytest
from palate.adapters.comparisons import Comparison, PreferenceStore, Ranking
from palate.adapters.taste import BradleyTerry, fit_taste
from palate.adapters.taste.answers import read_answers
from palate.adapters.taste.covariance import Stretch
from palate.adapters.taste.level import augmented, log_odds_at_random
from palate.adapters.taste.observed import observe
from palate.adapters.taste.prior import Prior, evidence_prior

WIDTH = 4


def vectors(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def answers(count, level, seed=0):
    """Pairs by a person who says that both are bad where the better one is below a level; None says so at random."""
    generator = np.random.default_rng(seed)
    left, right = vectors(seed + 1, count, WIDTH), vectors(seed + 2, count, WIDTH)
    weights = np.array([3.0, -2.0, 0.0, 0.0])
    utility = np.stack([left @ weights, right @ weights])
    bad = generator.random(count) < (0.3 if level is None else 1 / (1 + np.exp(utility.max(axis=0) - level)))
    won = generator.random(count) < 1 / (1 + np.exp(utility[1] - utility[0]))
    refused = [(np.stack(pair), 1.0) for pair in zip(left[bad], right[bad], strict=True)]
    return observe(left[~bad], right[~bad], np.where(won[~bad], "left", "right"), np.ones((~bad).sum()), (), refused)


def test_the_outside_option_by_hand():
    """Pictures at 1 and -1 in one dimension, once chosen so, once both bad: they lie in the mean, 0, and twice the
    length of the only difference, 2, is the outside option's one more coordinate."""
    pair = np.array([[1.0], [-1.0]])
    observed = observe(pair[:1], pair[1:], ["left"], np.ones(1), (), [(pair, 1.0)])
    given = augmented(observed, observed.level)
    np.testing.assert_allclose(given["choices"][0], [[1, 0], [-1, 0], [0, 4]])
    np.testing.assert_allclose(given["choices"][1], [[0, 4], [1, 0], [-1, 0]])
    assert given["sample_weight"].tolist() == [1.0, 1.0] and given["chosen"].shape == (0, 2)
    assert log_odds_at_random(observed.level) == pytest.approx(np.log(1 / 6))  # Beta(2, 2) = 1! 1! / 3!


def test_every_kind_of_answer_is_a_choice_with_the_outside_option():
    images = vectors(0, 9, WIDTH)
    rankings = [([images[:1], images[1:4]], 2.0), ([images[4:5], images[5:6], images[6:7]], 1.0), ([images[:3]], 1.0)]
    observed = observe(images[:2], images[2:4], ["right", "tie"], np.array([1.0, 3.0]), rankings, [(images[7:], 0.5)])
    level = observed.level
    assert [len(one) for one in level.offered] == [2, 4, 3]
    assert level.offered_weight.tolist() == [1.0, 2.0, 1.0]
    np.testing.assert_array_equal(level.offered[0], images[[2, 0]])
    # The tie, the ties of one tier, and the second stage of the order have nothing to do with being good enough.
    assert (len(level.others.ties[0]), len(level.others.orderings), len(level.others.chosen)) == (4, 1, 0)
    assert Prior(1.0, level=True).fit(observed).weights_.shape == (WIDTH,)


@pytest.mark.parametrize("stretched", [False, True])
@pytest.mark.parametrize("count", [1, 60])
def test_the_other_weights_are_the_whole_models_own(stretched, count):
    observed = answers(count, level=1.0, seed=5)
    if count == 1:  # fewer rows than weights: another form of the posterior
        a, b = vectors(6, 1, WIDTH), vectors(7, 1, WIDTH)
        observed = observe(a, b, ["left"], np.ones(1), (), [(np.concatenate([-a, b]), 1.0)])
    stretch = Stretch(2.0, np.eye(WIDTH)[:2], np.array([0.3, 0.6])) if stretched else None
    mean = vectors(9, WIDTH)
    model = Prior(2.0, stretch, mean, level=True).fit(observed)
    full = np.diag([2.0] * (WIDTH + 1)) if not stretched else np.diag([0.6, 1.2, 2.0, 2.0, 2.0])
    whole = BradleyTerry().fit(
        **augmented(observed, observed.level), prior_mean=np.append(mean, 0.0), prior_covariance=full
    )
    np.testing.assert_allclose(model.weights_, whole.weights_[:WIDTH], atol=1e-6)
    covariance = whole.utility_covariance(np.eye(WIDTH + 1))[:WIDTH, :WIDTH]
    np.testing.assert_allclose(model.utility_covariance(np.eye(WIDTH)), covariance, rtol=1e-5, atol=1e-8)
    assert model.log_evidence() == pytest.approx(whole.log_evidence(), abs=1e-6)
    told = BradleyTerry.from_posterior(model.weights_, 2.0, model.posterior.leading_gain(WIDTH))
    np.testing.assert_allclose(told.utility_covariance(np.eye(WIDTH)), covariance, rtol=1e-5, atol=1e-8)


def test_evidence_believes_a_level_and_not_the_throw_of_a_die():
    assert evidence_prior(answers(150, level=1.0)).level
    assert not evidence_prior(answers(150, level=None)).level
    assert not evidence_prior(answers(4, level=1.0)).level


def test_of_many_answers_both_hypotheses_are_asked_about_the_same_ones():
    """More pairs and rankings than are looked at, each with a tenth "both bad" at random."""
    generator = np.random.default_rng(0)
    weights, bad = np.array([3.0, -2.0, 0.0, 0.0]), generator.random(400) < 0.1
    shown = [vectors(10 + k, 2 if k < 250 else 4, WIDTH) for k in range(400)]
    best = [int(np.argmax(images @ weights + generator.gumbel(size=len(images)))) for images in shown]
    pairs = [(images, place) for images, place, no in zip(shown, best, bad, strict=True) if len(images) == 2 and not no]
    left, right = np.stack([images for images, _ in pairs]).transpose(1, 0, 2)
    rankings = [
        ((images[[place]], np.delete(images, place, 0)), 1.0)
        for images, place, no in zip(shown, best, bad, strict=True)
        if len(images) == 4 and not no
    ]
    outcomes = ["right" if place else "left" for _, place in pairs]
    refused = [(images, 1.0) for images, no in zip(shown, bad, strict=True) if no]
    observed = observe(left, right, outcomes, np.ones(len(pairs)), rankings, refused)
    assert not evidence_prior(observed).level
    told = Prior(1.0).fit(observed)
    same = Prior(1.0).fit(observed.level.without)
    assert same.log_evidence() == pytest.approx(told.log_evidence(), abs=1e-6)
    np.testing.assert_allclose(same.weights_, told.weights_, atol=1e-6)


def test_without_both_bad_there_is_no_level():
    pairs = observe(vectors(0, 3, WIDTH), vectors(1, 3, WIDTH), ["left"] * 3, np.ones(3))
    assert pairs.level is None
    np.testing.assert_array_equal(Prior(1.0, level=True).fit(pairs).weights_, Prior(1.0).fit(pairs).weights_)


class Numbers:
    """An encoder whose vectors are all in the store's cache."""

    identity = "numbers"
    name = "numbers"
    dim = WIDTH
    text_projection = None


def test_both_bad_is_read_from_the_store_as_it_was_answered(tmp_path):
    with PreferenceStore(tmp_path / "store") as store:
        store.put_vectors("numbers", dict(zip("abcdef", vectors(0, 6, WIDTH), strict=True)))
        for outcome in ("both_bad", "left", "skip", "both_bad", "left"):
            store.add(Comparison("mara", "a", "b", outcome, created=1.0))
        store.add_ranking(Ranking("mara", ("c", "d", "e", "f"), (), "both_bad", created=1.0 + 86_400.0))
        store.add(Comparison("mara", "gone", "b", "both_bad"))
        answers_ = read_answers(store, Numbers(), "mara", half_life=1.0)
        assert [len(one.images) for one in answers_.refused] == [2, 2, 4]
        level = answers_.observed().level
        assert [len(one) for one in level.refused] == [2, 2, 4]
        assert [len(one) for one in answers_.observed(1).level.refused] == [2, 2]
        assert answers_.first(1).observed().level is None
        assert level.refused_weight.tolist() == [1.0, 1.0, 1.0]  # no answer that teaches more is newer
        assert fit_taste(store, Numbers(), "mara").answers == 2
