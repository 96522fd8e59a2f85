"""How much better: the likelihood with its cut against the formula, what it gains, and when it is not believed."""

from __future__ import annotations

from dataclasses import replace
from math import lgamma

import numpy as np
import pytest
from palate.adapters.comparisons import Comparison, PreferenceStore, Ranking
from palate.adapters.errors import ComparisonError
from palate.adapters.taste.answers import known_answers
from palate.adapters.taste.grades import graded, log_odds_at_random, log_share
from palate.adapters.taste.likelihood import graded_choices
from palate.adapters.taste.observed import observe
from palate.adapters.taste.prior import Prior, evidence_prior

WIDTH = 8
LIKES = np.random.default_rng(9).standard_normal(WIDTH)


def said(count, seed=0, cut=2.0, much=True, noise=1.0):
    """Answers of somebody who says "much" where the difference that they feel is beyond the cut; or at random."""
    rng = np.random.default_rng(seed)
    left, right = rng.standard_normal((2, count, WIDTH))
    felt = noise * (left - right) @ LIKES + rng.logistic(size=count)
    loud = np.abs(felt) > cut if much else rng.random(count) < 0.4
    return observe(left, right, np.where(felt > 0, "left", "right"), np.ones(count), much=list(map(bool, loud)))


def fours(count, seed=0, cut=2.0, much=True):
    """Bests of four of such a person, as `observe` takes them."""
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((count, 4, WIDTH))
    felt = images @ LIKES + rng.gumbel(size=(count, 4))
    order = np.argsort(-felt, axis=1)
    above = np.array([row[best[0]] - row[best[1]] for row, best in zip(felt, order, strict=True)])
    loud = above > cut if much else rng.random(count) < 0.4
    tiers = [((one[[best[0]]], one[best[1:]]), 1.0) for one, best in zip(images, order, strict=True)]
    none = np.zeros((0, WIDTH))
    return observe(none, none, [], np.zeros(0), tiers, ranked_much=list(map(bool, loud)))


def agreement(weights):
    test = np.random.default_rng(5).standard_normal((2000, WIDTH))
    return float(((test @ weights > 0) == (test @ LIKES > 0)).mean())


def test_the_posterior_is_that_of_the_four_steps():
    """The gradient of the ordinal log-likelihood, written as it stands, plus the prior's is 0 at the fit's weights."""
    observed, cut, variance = said(30), 1.5, 2.0
    weights = Prior(variance, cut=cut).fit(observed).weights_

    def objective(w):
        z = (observed.chosen - observed.rejected) @ w
        first = observed.much != observed.much  # before the first "much": two steps
        inner, beyond = 1 / (1 + np.exp(-z)), 1 / (1 + np.exp(cut - z))
        p = np.where(first, inner, np.where(observed.much == 1, beyond, inner - beyond))
        return -np.log(p).sum() + 0.5 * w @ w / variance

    slope = [(objective(weights + h) - objective(weights - h)) / 2e-5 for h in 1e-5 * np.eye(WIDTH)]
    assert np.abs(slope).max() < 1e-3


def test_the_evidence_has_all_of_the_likelihood():
    """At weights that are surely zero it is the answers' own: P(left, much) = sigmoid(-c), and so on."""
    observed, cut = said(20), 1.5
    prior = Prior(1e-12, cut=cut)
    found = prior.fit(observed).log_evidence() + log_share(observed, cut)
    beyond = 1 / (1 + np.exp(cut))
    share = {1.0: beyond, 0.0: 0.5 - beyond}
    assert found == pytest.approx(sum(np.log(share.get(how, 0.5)) for how in observed.much), abs=1e-3)


def test_how_much_teaches_more_than_which():
    gains = []
    for seed in range(12):
        observed = said(25, seed)
        prior = evidence_prior(observed)
        plain = observe(observed.chosen, observed.rejected, ["left"] * 25, np.ones(25))
        gains.append(agreement(Prior(prior.variance, cut=2.0).fit(observed).weights_))
        gains[-1] -= agreement(Prior(prior.variance).fit(plain).weights_)
    assert np.mean(gains) > 0.01


def test_it_is_believed_of_who_means_it_and_of_nobody_else():
    meant = [evidence_prior(said(60, seed)).cut for seed in range(6)]
    assert all(cut in (1.0, 1.5, 2.0, 3.0, 4.0) for cut in meant)
    assert sum(evidence_prior(said(60, seed, much=False)).cut is not None for seed in range(6)) <= 1


def test_before_the_first_much_nothing_is_known_of_how_much():
    left, right = np.eye(3), -np.eye(3)
    observed = observe(left, right, ["left", "tie", "right"], np.ones(3), much=[False, None, True])
    np.testing.assert_array_equal(observed.much, [np.nan, 1.0])
    assert observe(left, right, ["left"] * 3, np.ones(3), much=[False] * 3).much is None
    assert graded(observed, 2.0, None)["sample_weight"].shape == (3,)  # two, and the tie


def test_of_two_images_it_is_the_four_steps_of_a_pair():
    """z = 1, c = 1.5: much -log s(-0.5) = 0.9741; not much -log s(1) - log s(0.5) = 0.7873; not asked 0.3133."""
    value, slope, bend = graded_choices(np.ones((3, 1)), np.array([1.0, 0.0, np.nan]), 1.5)
    np.testing.assert_allclose(value, [0.9741, 0.7873, 0.3133], atol=1e-4)
    higher = graded_choices(np.full((3, 1), 1.0 + 1e-5), np.array([1.0, 0.0, np.nan]), 1.5)
    np.testing.assert_allclose((higher[0] - value) / 1e-5, slope[:, 0], atol=1e-4)
    np.testing.assert_allclose((higher[1] - slope)[:, 0] / 1e-5, bend[:, 0, 0], atol=1e-4)


def test_of_four_images_the_slope_is_that_of_the_formula_and_the_curvature_never_negative():
    rows, much = 2.0 * np.random.default_rng(1).standard_normal((40, 3)), np.array([1.0, 0.0, np.nan, 0.0] * 10)
    _, slope, bend = graded_choices(rows, much, 1.5)
    for k, step in enumerate(1e-5 * np.eye(3)):
        ends = [graded_choices(rows + sign * step, much, 1.5) for sign in (1, -1)]
        np.testing.assert_allclose((ends[0][0] - ends[1][0]) / 2e-5, slope[:, k], atol=1e-6)
        exact = rows[:, 0] < np.logaddexp.reduce(np.c_[rows[:, 1:], np.zeros(40)], axis=1)  # z < 0: far below c / 2
        np.testing.assert_allclose(((ends[0][1] - ends[1][1]) / 2e-5)[exact], bend[exact, k], atol=1e-5)
    assert np.linalg.eigvalsh(bend).min() > -1e-12


def test_the_probabilities_of_all_that_can_be_said_of_four_add_up_to_one():
    utilities, cut, total = np.array([0.3, -1.0, 2.0, 0.1]), 1.3, 0.0
    for best in range(4):
        own = np.r_[utilities[best], np.delete(utilities, best)]
        value, _, _ = graded_choices(np.tile(own[:-1] - own[-1], (2, 1)), np.array([1.0, 0.0]), cut)
        total += np.exp(-value[0]) + np.exp(-value[1]) * (1 - np.exp(-cut))
    assert total == pytest.approx(1.0)


def test_how_much_the_best_of_four_is_better_teaches_too_and_is_not_believed_of_who_says_it_at_random():
    gains, found = [], [evidence_prior(fours(50, seed)).cut for seed in range(2)]
    assert all(cut in (1.0, 1.5, 2.0, 3.0) for cut in found)
    assert [evidence_prior(fours(50, seed, much=False)).cut for seed in range(2)] == [None, None]
    for seed in range(6):
        observed = fours(20, seed)
        prior = evidence_prior(observed)
        plain = replace(observed, choice_much=None)
        gains.append(agreement(Prior(prior.variance, cut=2.0).fit(observed).weights_))
        gains[-1] -= agreement(Prior(prior.variance).fit(plain).weights_)
    assert np.mean(gains) > 0.01


def test_pairs_and_fours_that_say_how_much_are_counted_together():
    pairs, choices = said(10), fours(12)
    ordered = observe(pairs.chosen, pairs.rejected, ["left"] * 10, np.ones(10), much=[True] * 10)
    both = replace(
        ordered,
        choices=choices.choices,
        choice_much=choices.choice_much,
        sample_weight=np.concatenate([np.ones(10), np.full(12, 2.0)]),
    )
    yes, no = 10 + 2.0 * (choices.choice_much == 1).sum(), 2.0 * (choices.choice_much == 0).sum()
    assert log_odds_at_random(both) == pytest.approx(lgamma(yes + 1) + lgamma(no + 1) - lgamma(yes + no + 2))
    assert log_share(both, 2.0) == pytest.approx(no * np.log1p(-np.exp(-2.0)))
    assert np.isfinite(Prior(1.0, cut=2.0).fit(both).log_evidence())


def test_an_order_whose_best_is_much_better_is_a_pick_and_an_order_of_the_others():
    images, none = np.eye(4), np.zeros((0, 4))
    tiers = [tuple(images[[k]] for k in range(4))] * 3
    observed = observe(none, none, [], np.zeros(0), [(one, 1.0) for one in tiers], ranked_much=[None, True, False])
    assert [len(one) for one in observed.orderings] == [4, 3, 3] and [len(one) for one in observed.choices] == [4, 4]
    np.testing.assert_array_equal(observed.choice_much, [1.0, 0.0])
    assert observe(none, none, [], np.zeros(0), [(tiers[0], 1.0)], ranked_much=[False]).choice_much is None


def test_the_store_keeps_it_and_a_file_carries_it(tmp_path):
    from palate.adapters.exchange import export_answers, import_answers, read_source

    with PreferenceStore(tmp_path / "one") as store:
        images = [store.add_image(np.full((8, 8, 3), shade, np.float32)) for shade in (0.1, 0.5, 0.9)]
        offers = [store.offer("ann", images[k], images[k + 1], prompt="a fox") for k in range(2)]
        assert store.answer(offers[0].id, "left", 1.0, much=True).much is True
        assert store.answer(offers[0].id, "left", 1.0).much is True  # the click came again
        revision = store.revision("ann")
        assert store.answer(offers[0].id, "left", much=False).much is False
        assert store.revision("ann") == revision + 1
        assert store.answer(offers[0].id, "right", much=True).much is True
        assert store.answer(offers[1].id, "tie").much is None
        for wrong in ("tie", "skip"):
            with pytest.raises(ComparisonError, match="much is True"):
                store.answer(offers[1].id, wrong, much=True)
        assert [one.much for one in store.comparisons("ann")] == [True, None]
        assert store.change(store.comparisons("ann")[0].id, "left").much is None
        store.answer(offers[0].id, "right", much=True)
        export_answers(store, tmp_path / "file", people=["ann"])
    with PreferenceStore(tmp_path / "two") as other:
        import_answers(other, read_source(tmp_path / "file" / "answers.jsonl"), "bea")
        assert sorted((one.outcome, one.much) for one in other.comparisons())[0] == ("right", True)


def test_much_is_of_an_answer_that_prefers_one():
    with pytest.raises(ComparisonError, match="true or false"):
        Comparison("ann", "a", "b", "tie", much=False)
    with pytest.raises(ComparisonError, match="much is 1 of"):
        Comparison("ann", "a", "b", "left", much=1)  # type: ignore[arg-type]


def test_how_much_the_best_of_four_is_better_is_kept_learned_from_and_replaced(tmp_path):
    with PreferenceStore(tmp_path / "store") as store:
        images = [store.add_image(np.full((8, 8, 3), shade, np.float32)) for shade in (0.1, 0.4, 0.6, 0.9)]
        offer = store.offer("ann", *images[:2], others=tuple(images[2:]), prompt="a fox")
        tiers = [[images[1]], [images[0], *images[2:]]]
        assert store.rank(offer.id, tiers, much=True).much is True
        assert store.rank(offer.id, tiers).much is True  # the click came again
        assert [(one.left == images[1] or one.right == images[1], one.much) for one in store.comparisons("ann")] == [
            (True, True)
        ] * 3
        assert store.rankings("ann")[0].much is True and store.asked.answers([offer.id])[0][1].much is True
        store.put_vectors("numbers", dict(zip(images, np.eye(4, dtype=np.float32), strict=True)))
        answers = known_answers(store, "numbers", "ann")
        np.testing.assert_array_equal(answers.observed().choice_much, [1.0])
        assert store.rank(offer.id, tiers, much=False).much is False
        assert store.rank(offer.id, [[one] for one in images]).much is None
        with pytest.raises(ComparisonError, match="one image before all others"):
            store.rank(offer.id, [images[:2], images[2:]], much=True)
        with pytest.raises(ComparisonError, match="much is 1 with"):
            store.rank(offer.id, tiers, much=1)


def test_not_much_better_than_a_picture_that_is_gone_says_nothing_of_the_others(tmp_path):
    with PreferenceStore(tmp_path / "store") as store:
        shades = np.linspace(0.0, 1.0, 12, dtype=np.float32)
        images = [store.add_image(np.full((8, 8, 3), shade, np.float32)) for shade in shades]
        for place, much in enumerate((True, False, True)):
            four = tuple(images[4 * place : 4 * place + 4])
            store.add_ranking(Ranking("ann", four, ((four[0],), four[1:]), much=much))
        vectors = dict(zip(images, np.eye(12, dtype=np.float32), strict=True))
        store.put_vectors("whole", vectors)
        store.put_vectors("parts", {image: v for image, v in vectors.items() if image not in (images[5], images[9])})
        for known, said in (("whole", [1.0, 0.0, 1.0]), ("parts", [1.0, np.nan, 1.0])):
            found = known_answers(store, known, "ann").observed()
            np.testing.assert_array_equal(found.choice_much, said)
            assert len(found.choices) == 3


def test_a_level_and_how_much_in_one_store_are_no_error():
    graded_ones = fours(20)
    tiers = [((one[:1], one[1:]), 1.0) for one in graded_ones.choices]
    none, much = np.zeros((0, WIDTH)), [True] * 10 + [False] * 10
    bad = [(np.random.default_rng(k).standard_normal((2, WIDTH)), 1.0) for k in range(4)]
    observed = observe(none, none, [], np.zeros(0), tiers, bad, ranked_much=much)
    assert np.isfinite(evidence_prior(observed).fit(observed).weights_).all()
