"""What the learner is told of answers: pairs, ties, the best of several, orders, and how old they are."""

from __future__ import annotations

import numpy as np
import pytest
from palate.adapters.comparisons import Comparison, PreferenceStore, Ranking
from palate.adapters.taste import BradleyTerry, fit_taste
from palate.adapters.taste.answers import read_answers
from palate.adapters.taste.observed import observe

FOUR = ("a", "b", "c", "d")
WIDTH = 3


class Numbers:
    """An encoder whose vectors are all in the store's cache."""

    identity = "numbers"
    name = "numbers"
    dim = WIDTH
    text_projection = None


@pytest.fixture
def store(tmp_path):
    with PreferenceStore(tmp_path / "store") as opened:
        vectors = np.random.default_rng(0).normal(size=(6, WIDTH))
        opened.put_vectors("numbers", dict(zip("abcdef", vectors, strict=True)))
        yield opened


def images(store, names):
    found = store.vectors("numbers", list(names))
    return np.stack([found[name] for name in names]).astype(np.float64)


def weights(**answers):
    return (
        BradleyTerry(2.0).fit(**{"chosen": np.zeros((0, WIDTH)), "rejected": np.zeros((0, WIDTH))} | answers).weights_
    )


@pytest.mark.parametrize(
    ("tiers", "told"),
    [
        ((("c",), ("a", "b", "d")), {"choices": ["cabd"]}),
        ((("d",), ("a",), ("b",), ("c",)), {"orderings": ["dabc"]}),
        ((("d",), ("a",), ("b", "c")), {"choices": ["dabc", "abc"]}),
        ((("a", "b"), ("c", "d")), {"choices": ["acd", "bcd"]}),
    ],
)
def test_a_ranking_is_learned_from_as_one_answer(store, tiers, told):
    store.add_ranking(Ranking("mara", FOUR, tiers))
    taste = fit_taste(store, Numbers(), "mara", prior_variance=2.0)
    expected = weights(**{name: [images(store, one) for one in lists] for name, lists in told.items()})
    np.testing.assert_allclose(taste.model.weights_, expected, atol=1e-9)
    assert taste.answers == 1


def test_one_tier_weighs_as_many_ties_as_there_are_independent_differences(store):
    store.add_ranking(Ranking("mara", FOUR, (FOUR,)))
    observed = read_answers(store, Numbers(), "mara").observed()
    assert (len(observed.ties[0]), observed.sample_weight.tolist()) == (6, [0.5] * 6)


def test_everything_at_once_and_what_comes_first(store):
    for outcome in ("left", "both_bad", "skip", "tie"):
        store.add(Comparison("mara", "e", "f", outcome))
    store.add_ranking(Ranking("mara", FOUR, (("c",), ("a", "b", "d"))))
    store.add_ranking(Ranking("mara", FOUR, (), "both_bad"))
    store.add(Comparison("mara", "e", "f", "right"))
    answers = read_answers(store, Numbers(), "mara")
    assert (answers.given, len(answers.comparisons)) == (4, 6)
    observed = answers.observed()
    assert (len(observed.chosen), len(observed.ties[0]), len(observed.choices), len(observed.orderings)) == (2, 1, 1, 0)
    assert len(observed.sample_weight) == 4
    early = answers.observed(2)
    assert (len(early.chosen), len(early.ties[0]), early.choices) == (1, 1, ())
    chosen, rejected = answers.preferences()
    assert len(chosen) == len(rejected) == 5
    np.testing.assert_allclose(chosen[0] + chosen[-1], rejected[0] + rejected[-1])
    assert len(observed.differences) == 6
    np.testing.assert_allclose(answers.fit().weights_, answers.fit(6, answers.prior()).weights_)


def test_of_a_ranking_the_pictures_that_are_left_still_count(store):
    store.add_ranking(Ranking("mara", ("gone", *FOUR), (("gone",), ("c",), ("a", "b", "d"))))
    observed = read_answers(store, Numbers(), "mara").observed()
    np.testing.assert_array_equal(observed.choices[0], images(store, "cabd"))


def test_an_answer_counts_half_after_each_half_life(store):
    day = 86_400.0
    store.add(Comparison("mara", "a", "b", "left", created=day))
    store.add(Comparison("mara", "a", "b", "tie", created=11 * day))
    store.add_ranking(Ranking("mara", FOUR, (("c",), ("a", "b", "d")), created=11 * day))
    store.add(Comparison("mara", "e", "f", "right", created=21 * day))
    observed = read_answers(store, Numbers(), "mara", half_life=10.0).observed()
    np.testing.assert_allclose(observed.sample_weight, [0.25, 1.0, 0.5, 0.5])
    assert read_answers(store, Numbers(), "mara").observed().sample_weight.tolist() == [1.0] * 4


def test_the_newest_of_each_kind():
    left, right = np.eye(4), np.zeros((4, 4))
    tiers = [([np.eye(4)[:1], np.eye(4)[1:]], float(number)) for number in range(3)]
    observed = observe(left, right, ["left", "tie", "right", "left"], np.arange(4.0), tiers).newest(2)
    np.testing.assert_array_equal(observed.chosen, [right[2], left[3]])
    np.testing.assert_array_equal(observed.ties[0], left[1:2])
    assert observed.sample_weight.tolist() == [2.0, 3.0, 1.0, 1.0, 2.0]
    assert len(observed.choices) == 2
