"""The study clicks, tiny: what it prints is what happened, and asking well is better than asking at random."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from palate.adapters.studies import clicks
from palate.adapters.studies._asking import KINDS, World, accuracy_by_answers, draw_world, plain_prior
from palate.adapters.studies._population import find_population
from palate.adapters.studies._strategies import make_ask
from palate.adapters.taste.observed import Observed


class TinyEncoder:
    """A 3 x 3 thumbnail as the vector; nothing trained."""

    identity, name, dim, has_text, text_projection = "t1", "tiny", 27, True, None

    def encode_images(self, images, batch_size=16):
        small = [np.asarray(image.resize((3, 3)), np.float32).reshape(-1) / 255 - 0.5 for image in images]
        return torch.nn.functional.normalize(torch.from_numpy(np.stack(small)), dim=-1)


def linear_world(people=6, pictures=150, width=10, seed=0, stretch=1.0):
    """People whose utility is a weight per dimension, and not too noisy."""
    rng = np.random.default_rng(seed)
    scale = stretch ** -np.arange(width)
    vectors, tests = rng.standard_normal((pictures, width)), rng.standard_normal((400, width))
    weights = 1.5 * rng.standard_normal((people, width)) * scale
    return World(vectors, weights @ vectors.T, tests, weights @ tests.T)


SMALL = ["--people", "2", "--others", "2", "--others-answers", "4", "--pictures", "20", "--answers", "2,4"]
KINDS_OF = ["--kinds", "pairs,ordered fours", "--strategies", "random,ours", "--fours", "2"]


def test_the_same_seed_prints_the_same_tables_with_a_row_for_every_arm(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(clicks, "load_encoder", lambda spec: TinyEncoder())
    printed = []
    for _ in range(2):
        assert clicks.run([*SMALL, *KINDS_OF, "--mistakes", "0.2", "--cache", str(tmp_path), "--seed", "3"]) == 0
        printed.append(capsys.readouterr().out)
    tables = [text.rsplit("\n", 2)[0] for text in printed]
    assert tables[0] == tables[1]
    rows = [line.split("|")[1].strip() for line in tables[0].splitlines() if ", random" in line or ", ours" in line]
    assert rows[:8] == [
        f"{kind}, {prior}, {strategy}"
        for kind in ("pairs", "ordered fours")
        for prior in ("no prior", "population prior")
        for strategy in ("random", "ours")
    ]
    assert "20 % mistakes" in printed[0]
    assert " --seed 3` · seed 3 · " in printed[0]


@pytest.mark.parametrize("kind", KINDS)
def test_asking_well_needs_fewer_answers_than_asking_at_random(kind):
    """Ten dimensions, twenty answers: what is asked by information gain teaches six people together more."""
    world = linear_world(seed=1)
    mean = {
        strategy: np.mean(
            [accuracy_by_answers(world, p, kind, make_ask(strategy), plain_prior, [20], 0.0, 0) for p in range(6)]
        )
        for strategy in ("random", "ours")
    }
    assert mean["ours"] > mean["random"] + 0.01


def test_nobody_knows_anything_before_the_first_answer_and_mistakes_cost_accuracy():
    world = linear_world(people=3)
    ask = [accuracy_by_answers(world, p, "pairs", make_ask("random"), plain_prior, [0, 80], 0.0, 0) for p in range(3)]
    careless = [accuracy_by_answers(world, p, "pairs", make_ask("random"), plain_prior, [80], 0.8, 0) for p in range(3)]
    assert {before for before, _ in ask} == {0.5}
    assert np.mean([after for _, after in ask]) > np.mean(careless) + 0.05


@pytest.mark.parametrize("strategy", ["ours", "uncertainty"])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_asked_twice(kind, strategy):
    world, asked = linear_world(people=1, pictures=60), []
    ask = make_ask(strategy)

    def noted(learned, vectors, size, rng):
        shown = ask(learned, vectors, size, rng)
        asked.append(frozenset(shown.tolist()))
        return shown

    accuracy_by_answers(world, 0, kind, noted, plain_prior, [12], 0.0, 0)
    assert all(len(shown) == KINDS[kind] for shown in asked)
    assert len(set(asked[1:])) == 11  # the first is drawn at random, and not remembered


def test_a_level_is_reached_between_two_numbers_of_answers():
    """0.6 after 10, 0.7 after 20: 0.65 after 15."""
    curve, sizes = np.array([0.6, 0.7, 0.69]), (10, 20, 40)
    assert clicks.reached(curve, sizes, 0.65) == pytest.approx(15.0)
    assert clicks.reached(curve, sizes, 0.5) == 10.0
    assert clicks.reached(curve, sizes, 0.8) == float("inf")


def given(seed, weights, count=60):
    rng = np.random.default_rng(seed)
    left, right = rng.standard_normal((2, count, len(weights)))
    won = (rng.random(count) < 1 / (1 + np.exp(-(left - right) @ weights)))[:, None]
    empty = np.zeros((0, len(weights)))
    sides = np.where(won, left, right), np.where(won, right, left)
    return Observed(*sides, (empty, empty), (), (), np.ones(count))


def test_a_population_that_agrees_is_expected_of_a_stranger_and_one_that_does_not_is_not():
    shared = np.array([2.0, 0.0, 0.0, 0.0])
    alike = find_population([given(seed, shared) for seed in range(8)])
    assert alike.mean @ shared / (np.linalg.norm(alike.mean) * 2.0) > 0.95
    apart = find_population([given(seed, shared * (-1) ** (seed // 2)) for seed in range(8)])
    assert np.linalg.norm(apart.mean) < 0.5 * np.linalg.norm(alike.mean)


def test_what_people_share_is_worth_answers(tmp_path):
    """With all of utility in common, people as others know them are known before their first answer."""
    encoder = TinyEncoder()
    one, other = (draw_world(encoder, 1, 10, 0, shared=1.0, first=first, cache=tmp_path) for first in (0, 3))
    assert np.array_equal(one.vectors, other.vectors)
    assert np.allclose(one.utility, other.utility)
    assert not np.allclose(draw_world(encoder, 1, 10, 0, first=3, cache=tmp_path).utility, one.utility)
