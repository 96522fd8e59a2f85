"""From the store to a taste and to the report on it, with the real store and an encoder made of numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from palate.adapters.comparisons import Comparison
from palate.adapters.errors import NotEnoughAnswersError, ShapeError
from palate.adapters.taste import BradleyTerry, choose_pair, fit_taste, learned_report
from palate.adapters.taste.prior import evidence_prior_variance
from palate.adapters.taste.report import wilson_interval
from PIL import Image


class ColourEncoder:
    """Mean red, green and blue of a picture, around grey, as a unit vector; counts how many it was given."""

    identity = "c0102"
    name = "colours"
    dim = 3
    has_text = False

    def __init__(self, projection=None):
        self.text_projection = projection
        self.encoded = 0

    def encode_images(self, images, batch_size=16):
        self.encoded += len(images)
        means = torch.stack([torch.from_numpy(np.asarray(i, np.float32)).mean((0, 1)) for i in images])
        return torch.nn.functional.normalize(means - 127.5, dim=-1)


def add(store, outcome, left=(200, 20, 30), right=(20, 30, 200), person="mara"):
    sides = [store.add_image(Image.new("RGB", (8, 8), colour)) for colour in (left, right)]
    return store.add(Comparison(person, *sides, outcome))


def answer_by(store, count, like, seed=0, person="mara", noise=0.0):
    """Answer `count` random pairs of colours by a utility of the colour."""
    generator = np.random.default_rng(seed)
    for _ in range(count):
        left, right = (tuple(int(v) for v in generator.integers(0, 256, 3)) for _ in range(2))
        prefers_left = (like(left) > like(right)) != (generator.random() < noise)
        add(store, "left" if prefers_left else "right", left, right, person)


def test_a_taste_likes_what_was_chosen(store):
    answer_by(store, 12, like=lambda colour: colour[0])
    encoder = ColourEncoder(torch.arange(6.0).reshape(3, 2))
    taste = fit_taste(store, encoder, "mara", base="sd15")
    red, blue = encoder.encode_images([Image.new("RGB", (4, 4), c) for c in ((255, 60, 60), (60, 60, 255))])
    assert taste.utility(torch.stack([red, blue]))[0] > taste.utility(blue[None])[0]
    assert taste.direction.norm() == pytest.approx(1.0)
    assert taste.direction[0] > 0.8
    assert (taste.answers, taste.base, taste.encoder, taste.person) == (12, "sd15", "c0102", "mara")
    assert taste.chosen.shape == taste.rejected.shape == (12, 3)
    torch.testing.assert_close(taste.text_weights, encoder.text_projection.T @ taste.weights)


def test_a_taste_equals_its_model(store):
    for outcome in ("left", "tie", "right", "both_bad", "skip"):
        add(store, outcome)
    taste = fit_taste(store, ColourEncoder(), "mara", prior_variance=2.0)
    pair = ColourEncoder().encode_images(
        [store.image(i) for i in (store.comparisons()[0].left, store.comparisons()[0].right)]
    )
    one, other = pair[:1].double().numpy(), pair[1:].double().numpy()
    by_hand = BradleyTerry(2.0).fit(np.stack([one[0], other[0]]), np.stack([other[0], one[0]]), ties=(one, other))
    np.testing.assert_allclose(taste.model.weights_, by_hand.weights_, atol=1e-9)
    assert taste.answers == 3
    np.testing.assert_allclose(taste.weights.norm().item(), 0.0, atol=1e-6)


def test_images_are_encoded_once(store):
    answer_by(store, 5, like=sum)
    encoder = ColourEncoder()
    fit_taste(store, encoder, "mara")
    learned_report(store, encoder, "mara")
    assert encoder.encoded == 10


def test_answers_whose_pictures_are_gone_are_left_out(store):
    add(store, "left")
    store.add(Comparison("mara", "a" * 64, "b" * 64, "left"))
    assert fit_taste(store, ColourEncoder(), "mara").answers == 1
    store.put_vectors("c0102", {"a" * 64: np.array([1.0, 0, 0]), "b" * 64: np.array([0.0, 1, 0])})
    assert fit_taste(store, ColourEncoder(), "mara").answers == 2


@pytest.mark.parametrize("outcomes", [(), ("both_bad",), ("skip", "both_bad")])
def test_nothing_to_learn_from_is_said(store, outcomes):
    for outcome in outcomes:
        add(store, outcome)
    with pytest.raises(NotEnoughAnswersError, match=r"mara.*Compare two pictures first"):
        fit_taste(store, ColourEncoder(), "mara")


def test_one_answer_and_a_hundred_identical_ones_work(store):
    add(store, "left")
    first = fit_taste(store, ColourEncoder(), "mara")
    for _ in range(99):
        add(store, "left")
    many = fit_taste(store, ColourEncoder(), "mara")
    assert torch.isfinite(many.weights).all()
    torch.testing.assert_close(many.direction, first.direction, atol=1e-4, rtol=0)
    assert learned_report(store, ColourEncoder(), "mara").predicted == 0  # the same pair again is no test


def test_two_people_do_not_mix(store):
    answer_by(store, 8, like=lambda c: c[0], person="mara")
    answer_by(store, 8, like=lambda c: -c[0], person="noor", seed=0)
    mara, noor = (fit_taste(store, ColourEncoder(), p, prior_variance=1.0) for p in ("mara", "noor"))
    torch.testing.assert_close(mara.weights, -noor.weights, atol=1e-5, rtol=0)


def test_a_taste_refuses_other_widths_and_nan(store):
    add(store, "left")
    taste = fit_taste(store, ColourEncoder(), "mara")
    with pytest.raises(ShapeError, match=r"expected \(N, 3\). Encode them with colours"):
        taste.utility(torch.zeros(2, 4))
    with pytest.raises(ShapeError, match="hold NaN"):
        taste.utility(torch.full((2, 3), math.nan))


def test_a_taste_chooses_pairs(store):
    answer_by(store, 6, like=sum)
    i, j = choose_pair(fit_taste(store, ColourEncoder(), "mara"), torch.eye(3))
    assert 0 <= i < j < 3


def test_evidence_expects_more_of_consistent_answers():
    generator = np.random.default_rng(0)
    left, right = generator.standard_normal((2, 80, 5))
    sign = np.sign((left - right) @ generator.standard_normal(5))[:, None]
    coin = np.sign(generator.standard_normal(80))[:, None]

    def variance(sign):
        return evidence_prior_variance(np.where(sign > 0, left, right), np.where(sign > 0, right, left))

    assert variance(sign) > 10 * variance(coin)


def test_evidence_follows_the_scale_of_the_vectors():
    """Vectors ten times as long need a hundredth of the variance for the same log-odds."""
    left, right = np.random.default_rng(0).standard_normal((2, 10, 5))
    assert evidence_prior_variance(10 * left, 10 * right) == pytest.approx(evidence_prior_variance(left, right) / 100)
    assert evidence_prior_variance(left, left) == 4.0


def test_a_report_predicts_what_it_had_not_seen(store):
    answer_by(store, 45, like=lambda c: c[0] - c[2])
    report = learned_report(store, ColourEncoder(), "mara")
    assert (report.answers, report.predicted) == (45, 44)
    assert report.accuracy > 0.75
    assert report.better_than_coin
    assert report.log_loss < report.coin_log_loss
    assert report.interval[0] < report.accuracy < report.interval[1]
    assert report.summary.startswith(f"Predicted {report.correct:g} of 44")


def test_a_coin_is_not_called_a_taste(store):
    answer_by(store, 40, like=sum, noise=0.5)
    report = learned_report(store, ColourEncoder(), "mara")
    assert not report.better_than_coin


def test_a_report_on_nothing_is_empty(store):
    report = learned_report(store, ColourEncoder(), "mara")
    assert (report.answers, report.predicted, report.accuracy, report.interval) == (0, 0, None, (0.0, 1.0))
    assert "too few" in report.summary


def test_the_next_answer_is_predicted_from_those_before_it(store):
    """Two answers: the second one's prediction is that of a fit on the first alone."""
    answer_by(store, 2, like=lambda c: c[0])
    report = learned_report(store, ColourEncoder(), "mara")
    first, second = store.comparisons("mara")
    encoded = ColourEncoder().encode_images([store.image(i) for i in (first.chosen, first.rejected)]).double().numpy()
    variance = evidence_prior_variance(encoded[:1], encoded[1:])
    model = BradleyTerry(variance).fit(encoded[:1], encoded[1:])
    sides = ColourEncoder().encode_images([store.image(i) for i in (second.chosen, second.rejected)]).double().numpy()
    assert report.log_loss == pytest.approx(-math.log(model.predict_proba(sides[:1], sides[1:])[0]), abs=1e-6)


def test_wilson_by_hand():
    """8 of 10, z = 1.96: centre (0.8 + 0.19208) / 1.38416 = 0.71674, half 0.22665."""
    low, high = wilson_interval(8, 10)
    assert (low, high) == (pytest.approx(0.4902, abs=1e-3), pytest.approx(0.9433, abs=1e-3))
