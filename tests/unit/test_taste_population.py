"""What others have in common helps where there is such a thing, and is nothing where there is not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from palate.adapters.comparisons import Comparison, PreferenceStore, Ranking
from palate.adapters.taste import BradleyTerry, fit_taste
from palate.adapters.taste.answers import known_answers
from palate.adapters.taste.observed import observe
from palate.adapters.taste.population import FEWEST, population_prior, stored_population
from palate.adapters.taste.prior import evidence_prior

WIDTH = 8


class Numbers:
    """An encoder whose vectors are all in the store's cache."""

    identity = "numbers"
    name = "numbers"
    dim = WIDTH
    text_projection = None


@dataclass
class Known:
    """As much of a taste as a population is made of."""

    weights: np.ndarray
    prior_variance: float = 1.0
    known: np.ndarray = None


def tastes(count, common, seed=0, answers=60):
    """People with `common` of their weights' variance in common, each with so many answers."""
    generator = np.random.default_rng(seed)
    shared = generator.standard_normal(WIDTH)
    found = []
    for _ in range(count):
        weights = np.sqrt(common) * shared + np.sqrt(1 - common) * generator.standard_normal(WIDTH)
        differences = generator.standard_normal((answers, WIDTH))
        won = generator.random(answers) < 1 / (1 + np.exp(-differences @ weights))
        model = BradleyTerry().fit(np.where(won[:, None], differences, -differences), np.zeros_like(differences))
        found.append(Known(model.weights_, 1.0, model.posterior.leading_gain(WIDTH)))
    return shared, found


def test_what_people_have_in_common_is_found():
    shared, found = tastes(10, 0.8)
    population = population_prior(found)
    assert population.shared >= 0.6 and population.people == 10
    cosine = population.mean @ shared / np.linalg.norm(population.mean) / np.linalg.norm(shared)
    assert cosine > 0.9
    assert (population.covariance.shares < 0.6).all()


def test_people_with_nothing_in_common_change_nothing():
    assert [population_prior(tastes(10, 0.0, seed)[1]) for seed in range(5)] == [None] * 5


def test_too_few_people_change_nothing():
    assert population_prior(tastes(FEWEST - 1, 0.9)[1]) is None


def test_the_same_person_again_and_again_by_hand():
    """One weight, known all but exactly to be 2 of everybody: common is Normal(0, shared) seen P times with noise
    1 - shared, so its mean is 2 shared / (shared + (1 - shared) / P), and it stays open by
    shared (1 - shared) / P / (shared + (1 - shared) / P)."""
    people = [Known(np.array([2.0]), 1.0, np.array([[np.sqrt(1 - 1e-9)]])) for _ in range(10)]
    population = population_prior(people)
    shared, noise = population.shared, (1 - population.shared) / 10
    assert population.mean[0] == pytest.approx(2 * shared / (shared + noise), rel=1e-3)
    open_ = shared * noise / (shared + noise)
    assert population.covariance.shares[0] == pytest.approx(1 - shared + open_, rel=1e-3)


def test_strength_is_measured_in_each_persons_own_unit():
    _, found = tastes(10, 0.8)
    scaled = [Known(7.0 * one.weights, 49.0, one.known) for one in found]
    np.testing.assert_allclose(population_prior(scaled).mean, population_prior(found).mean, rtol=1e-9)


def seen(weights, count, seed):
    generator = np.random.default_rng(seed)
    left, right = generator.standard_normal((2, count, WIDTH))
    return observe(left, right, np.where((left - right) @ weights > 0, "left", "right"), np.ones(count))


def test_the_prior_is_like_others_until_the_answers_speak_against_it():
    shared, found = tastes(10, 0.9)
    population = population_prior(found)
    assert evidence_prior(seen(shared, 2, 0), None, population).mean @ shared > 0
    assert evidence_prior(seen(-shared, 2, 0), None, population).mean is not None
    assert evidence_prior(seen(-shared, 60, 0), None, population).mean is None


@pytest.fixture
def store(tmp_path):
    with PreferenceStore(tmp_path / "store") as opened:
        vectors = np.random.default_rng(0).standard_normal((30, WIDTH))
        opened.put_vectors("numbers", {str(number): vector for number, vector in enumerate(vectors)})
        yield opened


def answer(store, person, count, sign=1.0):
    vectors = store.vectors("numbers", [str(number) for number in range(30)])
    generator = np.random.default_rng(len(person))
    for _ in range(count):
        left, right = (str(number) for number in generator.choice(30, 2, replace=False))
        likes_left = sign * (vectors[left][0] - vectors[right][0]) > 0
        store.add(Comparison(person, left, right, "left" if likes_left else "right"))


def test_others_in_the_store_help_who_has_hardly_answered(store):
    for person in ("ann", "bob", "cleo", "dan!"):
        answer(store, person, 24)
    answer(store, "mara", 1)
    alone = fit_taste(store, Numbers(), "mara", population=False)
    taste = fit_taste(store, Numbers(), "mara")
    assert float(taste.direction[0]) > 0.8 > float(alone.direction[0])
    # A file says one number and one matrix, and both are right here too.
    told = BradleyTerry.from_posterior(taste.weights, taste.prior_variance, taste.model.posterior.leading_gain(WIDTH))
    np.testing.assert_allclose(
        told.utility_covariance(np.eye(WIDTH)), taste.model.utility_covariance(np.eye(WIDTH)), rtol=1e-6, atol=1e-9
    )


def test_who_ranked_pictures_counts_by_answers_not_by_what_they_imply(store):
    vectors = store.vectors("numbers", [str(number) for number in range(30)])
    for person in ("ann", "bob", "cleo"):
        generator = np.random.default_rng(len(person))
        for _ in range(12):
            shown = tuple(str(number) for number in generator.choice(30, 4, replace=False))
            order = sorted(shown, key=lambda image: -vectors[image][0])
            store.add_ranking(Ranking(person, shown, tuple((image,) for image in order)))
    answers = known_answers(store, "numbers", "ann")
    assert len(answers.comparisons) == 12 * 6 and answers.first(10).given == 10 and answers.first(99).given == 12
    assert stored_population(store, "numbers", "mara").people == 3


def test_a_person_is_not_one_of_the_others(store):
    for person in ("ann", "bob", "mara"):
        answer(store, person, 24)
    assert stored_population(store, "numbers", "mara") is None
    answer(store, "cleo", 9)
    assert stored_population(store, "numbers", "mara") is None
    answer(store, "cleo", 1)
    assert stored_population(store, "numbers", "mara").people == 3
    assert stored_population(store, "unknown", "mara") is None


def test_it_is_worked_out_again_when_somebody_doubled_their_answers(store):
    for person in ("ann", "bob", "cleo", "mara"):
        answer(store, person, 12)
    first = stored_population(store, "numbers", "mara")
    answer(store, "ann", 7)
    assert stored_population(store, "numbers", "mara") is first
    answer(store, "ann", 1)
    assert stored_population(store, "numbers", "mara") is not first


def test_who_was_forgotten_and_began_anew_is_known_as_they_are_now(store):
    for person in ("ann", "bob", "cleo"):
        answer(store, person, 24)
    before = stored_population(store, "numbers", "mara")
    for person in ("ann", "bob", "cleo"):
        store.forget(person)
        answer(store, person, 24, sign=-1.0)
    after = stored_population(store, "numbers", "mara")
    assert before.mean[0] > 0 > after.mean[0]


def test_whose_pictures_the_encoder_never_saw_is_left_out(store):
    for person in ("ann", "bob", "cleo"):
        answer(store, person, 24)
    for number in range(30):
        store.add(Comparison("dora", f"new {number}", f"other {number}", "left"))
    assert stored_population(store, "numbers", "mara").people == 3
