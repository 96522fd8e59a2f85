"""The study clicks, tiny: what it prints is what happened, and asking well is better than asking at random."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from palate.adapters.comparisons import Comparison, PreferenceStore
from palate.adapters.studies import clicks
from palate.adapters.studies._asking import KINDS, accuracy_by_answers, plain_prior
from palate.adapters.studies._known import exact_prior
from palate.adapters.studies._replay import replayed_accuracy
from palate.adapters.studies._samples import Sample
from palate.adapters.studies._strategies import make_ask
from palate.adapters.studies._world import World, draw_world
from palate.adapters.taste.covariance import times_factor
from PIL import Image


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
        assert clicks.run([*SMALL, *KINDS_OF, "--mistakes", "20", "--cache", str(tmp_path), "--seed", "3"]) == 0
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


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "graded best of four"])
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


def test_saying_how_much_better_the_best_of_four_is_teaches_more():
    """Of the same people, asked at random, thirty answers."""
    world = linear_world(seed=1)
    mean = [
        np.mean([accuracy_by_answers(world, p, kind, make_ask("random"), plain_prior, [30], 0.0, 0) for p in range(6)])
        for kind in ("best of four", "graded best of four")
    ]
    assert mean[1] > mean[0]


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
    assert clicks.reached(curve, sizes, 0.7 + 1e-12) == pytest.approx(20.0)
    assert clicks.reached(curve, sizes, 0.8) == float("inf")


def sample(seed, width=8):
    """A hundred answers to learn from and two hundred to test on, by somebody who errs now and then."""
    rng = np.random.default_rng(seed)
    taste = 2.0 * rng.standard_normal(width)
    left, right, tests = (
        rng.standard_normal((100, width)),
        rng.standard_normal((100, width)),
        rng.standard_normal((200, width)),
    )
    won = ((left - right) @ taste + rng.logistic(size=100) > 0)[:, None]
    return Sample("p", np.where(won, left, right), np.where(won, right, left), tests, tests, tests @ taste > 0)


def test_real_answers_asked_in_a_better_order_teach_sooner():
    mean = {
        strategy: np.mean([replayed_accuracy(sample(seed), strategy, plain_prior, [15], seed) for seed in range(8)])
        for strategy in ("random", "ours", "uncertainty")
    }
    assert mean["ours"] > mean["random"] + 0.01
    everything = [replayed_accuracy(sample(0), strategy, plain_prior, [100], 0) for strategy in ("random", "ours")]
    assert everything[0] == pytest.approx(everything[1], abs=0.02)


def test_the_study_runs_on_the_answers_of_a_store(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(clicks, "load_encoder", lambda spec: TinyEncoder())
    rng = np.random.default_rng(0)
    with PreferenceStore(tmp_path / "store") as store:
        images = [store.add_image(Image.fromarray(rng.integers(0, 255, (6, 6, 3), dtype=np.uint8))) for _ in range(7)]
        for k in range(12):
            store.add(Comparison("mara", images[k % 7], images[(k + 1 + k // 7) % 7], "left"))
    assert clicks.run(["--data", str(tmp_path / "store"), "--answers", "2,4"]) == 0
    printed = capsys.readouterr().out
    assert "1 people of the store" in printed
    assert "| pairs, no prior, ours |" in printed


def test_what_people_share_is_worth_answers(tmp_path):
    """With all of utility in common, people as others know them are known before their first answer."""
    encoder = TinyEncoder()
    one, other = (draw_world(encoder, 1, 10, 0, shared=1.0, first=first, cache=tmp_path) for first in (0, 3))
    assert np.array_equal(one.vectors, other.vectors)
    assert np.allclose(one.utility, other.utility)
    assert not np.allclose(draw_world(encoder, 1, 10, 0, first=3, cache=tmp_path).utility, one.utility)


def test_who_knows_people_exactly_knows_what_they_have_in_common_and_what_they_differ_in():
    """Two of five weights differ from person to person around a mean, the others are nobody's."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((200, 5))
    weights = np.array([1.0, -2.0, 0.0, 0.0, 0.0]) + rng.standard_normal((400, 5)) * [0.5, 1.0, 0.0, 0.0, 0.0]
    prior = exact_prior(World(vectors, weights @ vectors.T + 7.0, vectors, weights @ vectors.T)).prior
    covariance = np.square(times_factor(np.eye(5), prior.stretch)).sum(axis=1)
    assert prior.mean == pytest.approx(weights.mean(axis=0), abs=1e-9)
    assert covariance == pytest.approx(weights.var(axis=0, ddof=1), abs=1e-6)
