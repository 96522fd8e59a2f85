"""Postcards for the studies of training: drawn once, answered by people, turned over by index."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from palate.adapters.playground.people import make_people
from palate.adapters.steering import Generator
from palate.adapters.studies._postcards import (
    Postcards,
    answered,
    calibrated_on,
    draw_postcards,
    embeddings_of,
    flipped,
    pairs_of,
)


@pytest.fixture(scope="module")
def generator() -> Generator:
    return Generator("playground")


@pytest.fixture(scope="module")
def cards(generator: Generator) -> Postcards:
    return draw_postcards(generator, 4, 0, views=3)


def test_cards_are_drawn_once_and_the_first_of_many_are_those_of_few(
    generator: Generator, cards: Postcards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = draw_postcards(generator, 2, 0, views=3, cache=tmp_path)
    assert drawn.captions == cards.captions[:2] and np.array_equal(drawn.measured, cards.measured[:2])
    assert torch.allclose(drawn.latents, cards.latents[:2], atol=1e-4)
    monkeypatch.setattr("palate.adapters.studies._postcards.draw", None)  # nothing is drawn again
    again = draw_postcards(generator, 2, 0, views=3, cache=tmp_path)
    assert torch.equal(again.latents, drawn.latents) and np.array_equal(again.measured, drawn.measured)


def test_answers_follow_true_utility_as_far_as_the_noise_lets_them(cards: Postcards) -> None:
    person = calibrated_on(make_people(1, seed=3, cards=16)[0], cards)
    answers = answered(person, cards, 12, random.Random(0))
    assert len({(c, *sorted((a, b))) for c, a, b in zip(*list(vars(answers).values())[:3], strict=True)}) == 12
    chosen, rejected = (
        np.array([person.utility(cards.measured[c, v]) for c, v in zip(answers.caption, side, strict=True)])
        for side in (answers.chosen, answers.rejected)
    )
    assert answers.truth == pytest.approx((chosen - rejected) / person.noise)
    many = answered(person, cards, 4000, random.Random(0))
    assert np.mean(many.truth >= 0) == pytest.approx(0.87, abs=0.06)  # even pairs, too, agree


def test_flips_are_fixed_by_index_and_those_of_a_low_rate_are_among_those_of_a_high_one(cards: Postcards) -> None:
    answers = answered(make_people(1, seed=3, cards=16)[0], cards, 10, random.Random(0))
    some, more = flipped(answers, 0.2, 0), flipped(answers, 0.4, 0)
    assert (some.planted.sum(), more.planted.sum()) == (2, 4) and more.planted[some.planted].all()
    assert np.array_equal(some.chosen[some.planted], answers.rejected[some.planted])
    assert np.array_equal(some.chosen[~some.planted], answers.chosen[~some.planted])
    assert some.truth == pytest.approx(np.where(some.planted, -answers.truth, answers.truth))


def test_what_a_training_takes_are_the_answers_pictures(cards: Postcards) -> None:
    answers = answered(make_people(1, seed=3, cards=16)[0], cards, 5, random.Random(0))
    pairs, (chosen, rejected) = pairs_of(cards, answers), embeddings_of(cards, answers)
    place, side = int(answers.caption[2]), int(answers.rejected[2])
    assert torch.equal(pairs.rejected[2], cards.latents[place, side]) and pairs.prompts[2] == place
    assert len(pairs.tokens) == 5 and len(pairs) == len(answers[:5]) == 5
    cosine = (cards.vectors[place, side] @ cards.vectors[place, int(answers.chosen[2])] + 1.0) / 2.0
    assert float(torch.cosine_similarity(chosen, rejected)[2]) == pytest.approx(float(cosine), abs=1e-5)
