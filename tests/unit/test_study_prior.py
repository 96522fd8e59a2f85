"""The study prior, tiny: others help where there is something in common, and only there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from palate.adapters.comparisons import Comparison, PreferenceStore
from palate.adapters.errors import NotEnoughAnswersError
from palate.adapters.studies import prior
from palate.adapters.studies._asking import accuracy_by_answers, priors_of
from palate.adapters.studies._strategies import make_ask
from palate.adapters.studies._world import World
from PIL import Image


class TinyEncoder:
    """A 3 x 3 thumbnail as the vector; nothing trained."""

    identity, name, dim, has_text, text_projection = "t1", "tiny", 27, True, None

    def encode_images(self, images, batch_size=16):
        small = [np.asarray(image.resize((3, 3)), np.float32).reshape(-1) / 255 - 0.5 for image in images]
        return torch.nn.functional.normalize(torch.from_numpy(np.stack(small)), dim=-1)


def linear_world(weights, seed=0):
    """People with these weights (P, D)."""
    rng = np.random.default_rng(seed)
    vectors, tests = rng.standard_normal((150, weights.shape[1])), rng.standard_normal((400, weights.shape[1]))
    return World(vectors, weights @ vectors.T, tests, weights @ tests.T)


@pytest.mark.parametrize(("common", "least", "most"), [(1.0, 0.08, 0.5), (0.0, -0.03, 0.03)])
def test_others_help_after_five_answers_where_people_have_something_in_common(common, least, most):
    rng = np.random.default_rng(4)
    weights = common * 1.5 * rng.standard_normal(12) + (1.3 - common) * rng.standard_normal((18, 12))
    world, others = linear_world(weights[:8]), linear_world(weights[8:], seed=1)
    found = {
        name: np.mean(
            [accuracy_by_answers(world, p, "pairs", make_ask("random"), prior_of, [5], 0.0, 0) for p in range(8)]
        )
        for name, prior_of in priors_of(world, others, 60, 0.0, 0).items()
    }
    assert least <= found["population"] - found["none"] <= most


def test_a_perfect_population_is_the_distribution_of_weights():
    weights = np.random.default_rng(0).standard_normal((400, 5)) * np.array([3.0, 1.0, 0.1, 1.0, 1.0]) + 2.0
    found = prior.perfect_population(linear_world(weights))
    assert found.mean == pytest.approx(weights.mean(axis=0), abs=0.1)
    assert np.diag(found.covariance) == pytest.approx(weights.var(axis=0), abs=0.5)


def test_the_same_seed_prints_the_same_table(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(prior, "load_encoder", lambda spec: TinyEncoder())
    few = ["--people", "2", "--others", "3", "--others-answers", "10", "--perfect", "4", "--pictures", "10"]
    argv = [*few, "--answers", "0,2", "--shared", "0.5"]
    printed = []
    for _ in range(2):
        assert prior.run([*argv, "--cache", str(tmp_path), "--seed", "2"]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0].rsplit("\n", 2)[0] == printed[1].rsplit("\n", 2)[0]
    rows = [line.split("|")[1].strip() for line in printed[0].splitlines() if line.startswith("|")][2:]
    names = ("no prior", "population prior", "perfect population")
    assert rows == [f"{name}, {who}" for who in ("random pairs", "our pairs") for name in names]
    assert "no prior, random pairs | 50.0 (0) |" in printed[0]


def test_real_people_are_tested_with_the_rest_of_their_store_as_the_others(monkeypatch, capsys, tmp_path):
    """Five people who like the same: each is known before the first answer, by the four others."""
    monkeypatch.setattr(prior, "load_encoder", lambda spec: TinyEncoder())
    rng = np.random.default_rng(0)
    with PreferenceStore(tmp_path / "store") as store:
        reds = np.linspace(0, 255, 9, dtype=np.uint8)
        images = [store.add_image(Image.fromarray(np.full((6, 6, 3), (red, 0, 0), np.uint8))) for red in reds]
        for person in ("ann", "bo", "cem", "dee", "eve"):
            for _ in range(30):
                left, right = rng.choice(9, 2, replace=False)
                store.add(Comparison(person, images[left], images[right], "left" if left > right else "right"))
    argv = ["--data", str(tmp_path / "store"), "--answers", "0,2", "--others-answers", "20", "--others", "4"]
    assert prior.run(argv) == 0
    printed = capsys.readouterr().out
    assert "4 others of the store with 20 answers each, who have something in common for 5 of the people" in printed
    assert "| no prior, random pairs | 50.0 |" in printed
    assert "| population prior, random pairs | 100.0, +50.0 [+50.0, +50.0] |" in printed
    assert "| population prior, our pairs | 100.0" in printed


def test_too_few_real_answers_name_the_options_that_ask_for_fewer(monkeypatch, tmp_path):
    monkeypatch.setattr(prior, "load_encoder", lambda spec: TinyEncoder())
    PreferenceStore(tmp_path / "store").close()
    with pytest.raises(NotEnoughAnswersError, match=r"more than 100 answers.*--answers and --others-answers"):
        prior.run(["--data", str(tmp_path / "store")])
