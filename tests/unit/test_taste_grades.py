"""How much better: the likelihood with its cut against the formula, what it gains, and when it is not believed."""

from __future__ import annotations

import numpy as np
import pytest
from palate.adapters.comparisons import Comparison, PreferenceStore
from palate.adapters.errors import ComparisonError
from palate.adapters.taste.grades import graded, log_share
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
    found = prior.fit(observed).log_evidence() + log_share(observed, observed.much, cut)
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
    assert graded(observed, observed.much, 2.0, None)["sample_weight"].shape == (3,)  # two, and the tie


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
