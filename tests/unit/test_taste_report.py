"""What a report says beside accuracy: the curve, the control, advice, and answers that look like mistakes."""

from __future__ import annotations

import numpy as np
import pytest
from palate.adapters.comparisons import Comparison, Ranking
from palate.adapters.taste import BradleyTerry, learned_report, second_look
from palate.adapters.taste.enough import advise, expected_accuracy, expected_course
from palate.adapters.taste.replay import Prediction, learning_curve
from palate.adapters.taste.report import LearningReport, measured_taste
from palate.adapters.taste.second_look import left_out, mistake_probabilities
from palate.adapters.taste.shares import wilson_interval
from palate.adapters.taste.stranger import others_weights


class Numbers:
    """An encoder whose vectors are in the store already."""

    identity = "numbers"
    name = "numbers"
    dim = 4
    text_projection = None

    def encode_images(self, images):
        raise AssertionError("every vector is cached")


def answers(store, count, weights, person="mara", seed=0, flipped=(), source="panel:random", spread=4.0, since=None):
    """Answer random pairs by their utility, without noise but for the flipped ones; return the comparisons.

    `since`: the day of the first; one a day.
    """
    generator = np.random.default_rng(seed)
    found = []
    for index in range(count):
        pair = generator.standard_normal((2, 4))
        pair /= np.linalg.norm(pair, axis=1, keepdims=True)
        ids = [f"{person}{seed}-{index}-{side}" for side in "ab"]
        store.put_vectors("numbers", dict(zip(ids, pair, strict=True)))
        left = (pair[0] @ weights > pair[1] @ weights) != (index in flipped)
        day = None if since is None else (since + index) * 86_400.0
        found.append(store.add(Comparison(person, *ids, "left" if left else "right", source=source, created=day)))
    return found


LIKES = np.array([1.0, -0.5, 0.0, 0.2])


def test_a_report_of_eighty_answers(store):
    answers(store, 80, LIKES)
    answers(store, 60, np.roll(LIKES, 2), person="noor", seed=1)
    answers(store, 60, -LIKES, person="sven", seed=2)
    report = learned_report(store, Numbers(), "mara")
    assert report.accuracy > 0.8
    assert report.stranger_accuracy < report.accuracy - 0.2
    assert report.curve[-1][0] == 80
    assert all(low <= accuracy <= high for _, accuracy, low, high in report.curve)
    assert (report.repeats, report.ceiling, report.ceiling_interval) == (0, None, (0.5, 1.0))
    assert report.left_interval[0] < 0.5 < report.left_interval[1]
    assert report.leans == ""
    assert report.advice


def test_a_report_on_nothing_says_so(store):
    report = learned_report(store, Numbers(), "mara")
    assert (report.curve, report.stranger_accuracy, report.left_share, report.enough) == ((), None, None, False)
    assert report.advice == "Too few answers to say how many are enough: give 10 more first."


def test_a_report_on_ties_alone(store):
    for one in answers(store, 12, LIKES):
        store.change(one.id, "tie")
    report = learned_report(store, Numbers(), "mara")
    assert (report.answers, report.predicted, report.stranger_accuracy) == (12, 0, None)
    assert second_look(store, Numbers(), "mara") == ()


def test_the_curve_by_hand():
    """Twelve predictions, the first two wrong: ten of twelve at the end."""
    found = [Prediction(i + 1, (i,), (0.4,) if i < 2 else (0.9,)) for i in range(12)]
    curve = learning_curve(found)
    assert [point[:2] for point in curve[:3]] == [(2, 0.0), (3, 0.0), (4, pytest.approx(1 / 3))]
    assert curve[-1] == (13, pytest.approx(10 / 12), *wilson_interval(10, 12))
    assert learning_curve([]) == ()
    assert len(learning_curve(found * 100)) == 60


def test_the_curve_ends_where_the_report_says(store):
    answers(store, 40, LIKES, flipped=(3, 30))
    report = learned_report(store, Numbers(), "mara")
    assert report.curve[-1][1:] == (report.accuracy, *report.interval)


def test_a_ranking_counts_the_share_of_its_pairs():
    """Right, wrong, even: (1 + 0 + 0.5) / 3; and -(ln 0.8 + ln 0.4 + ln 0.5) / 3 = 0.6109."""
    prediction = Prediction(3, (3, 4, 5), (0.8, 0.4, 0.5))
    assert prediction.hit == pytest.approx(0.5)
    assert prediction.log_loss == pytest.approx(0.6109, abs=1e-4)


def test_expected_accuracy_by_hand():
    """Known log-odds ln 9: right with 0.9. Unknown about 0 with variance 8 / pi, known later: by simulation 0.7595."""
    known, zero = np.array([np.log(9.0)]), np.zeros(1)
    assert expected_accuracy(known, zero, zero) == pytest.approx(0.9)
    spread = np.array([8 / np.pi])
    assert expected_accuracy(zero, spread, spread) == pytest.approx(0.5)
    z = np.abs(np.random.default_rng(0).standard_normal(400_000)) * spread**0.5
    assert expected_accuracy(zero, spread, zero) == pytest.approx(float((1 / (1 + np.exp(-z))).mean()), abs=0.02)


def fitted(count, seed=0, flipped=()):
    generator = np.random.default_rng(seed)
    first, second = generator.standard_normal((2, count, 4))
    left = (first - second) @ LIKES > 0
    left[list(flipped)] ^= True
    chosen, rejected = np.where(left[:, None], first, second), np.where(left[:, None], second, first)
    return BradleyTerry(4.0).fit(chosen, rejected), chosen - rejected, np.concatenate([first, second])


def test_more_answers_never_lower_what_is_expected():
    model, _, pictures = fitted(20)
    course = expected_course(model, pictures)
    assert (np.diff(course) >= 0).all()
    assert 0.5 < course[0] < course[-1] < 1.0


def test_advice_comes_to_an_end():
    """The gain by 100 more shrinks with the answers, and somewhere it is enough."""
    gains = [advise(*_advised(count)).gain for count in (12, 60, 400)]
    assert gains[0] > gains[1] > gains[2]
    last = advise(*_advised(400))
    assert last.enough
    assert (last.text, last.more) == ("Good enough: more clicks will hardly change it.", 0)
    early = advise(*_advised(12))
    assert not early.enough
    assert early.text.startswith(f"About {early.more} more answers are worth it: they would add about ")
    assert early.accuracy < last.accuracy


def _advised(count):
    model, _, pictures = fitted(count)
    return model, pictures, count


def test_too_few_answers_or_pictures_for_advice():
    model, _, pictures = fitted(12)
    assert advise(model, pictures, 9).more is None
    assert advise(model, pictures[:3], 12).gain is None


def test_leaving_an_answer_out_is_close_to_fitting_without_it():
    model, differences, _ = fitted(40, flipped=(3,))
    out = left_out(model, differences)
    for row in (0, 3, 20):
        rest = np.delete(differences, row, axis=0)
        without = BradleyTerry(4.0).fit(rest, np.zeros_like(rest))
        one = differences[row : row + 1]
        spread = 1.0 + np.pi * without.posterior.variance(one)[0] / 8.0
        expected = 1 / (1 + np.exp(-(one @ without.weights_)[0] / np.sqrt(spread)))
        assert out[row] == pytest.approx(expected, abs=0.05)


def test_flipped_answers_look_like_mistakes(store):
    given = answers(store, 100, LIKES, flipped=(30, 60, 90))
    found = second_look(store, Numbers(), "mara")
    assert {30, 60, 90} & {given.index(one.comparison) for one in found}
    assert [one.probability for one in found] == sorted((one.probability for one in found), reverse=True)
    assert all(0.15 < one.probability <= 1.0 for one in found)
    assert second_look(store, Numbers(), "mara", most=1) == found[:1]


def test_what_was_answered_by_an_earlier_taste_is_no_slip(store):
    earlier = answers(store, 60, LIKES, since=1)
    now = answers(store, 60, -LIKES, seed=1, since=400, flipped=(30, 45))
    days = {one.comparison.created for one in second_look(store, Numbers(), "mara", most=120)}
    assert days & {one.created for one in earlier}
    faded = {one.comparison.id for one in second_look(store, Numbers(), "mara", most=120, half_life=60.0)}
    assert faded & {now[30].id, now[45].id} and not faded & {one.id for one in earlier}


def test_an_answer_is_looked_at_again_once(store):
    answers(store, 100, LIKES, flipped=(30, 60, 90))
    first = second_look(store, Numbers(), "mara")[0].comparison
    store.add(Comparison("mara", first.right, first.left, "left", source="panel:second-look"))
    assert first.id not in {one.comparison.id for one in second_look(store, Numbers(), "mara")}


def test_consistent_answers_hold_few_mistakes():
    model, differences, _ = fitted(100)
    assert (mistake_probabilities(model, differences) > 0.5).mean() < 0.05


def test_second_look_on_nothing(store):
    assert second_look(store, Numbers(), "mara") == ()


def test_a_ranking_is_one_answer_and_one_prediction(store):
    """Best of four after ten pairs: eleven answers, one more prediction, the mean over its three pairs."""
    answers(store, 10, LIKES)
    pictures = np.random.default_rng(7).standard_normal((4, 4))
    store.put_vectors("numbers", {f"r{i}": vector for i, vector in enumerate(pictures)})
    before = learned_report(store, Numbers(), "mara")
    best = int(np.argmax(pictures @ LIKES))
    rest = tuple(f"r{i}" for i in range(4) if i != best)
    store.add_ranking(Ranking("mara", tuple(f"r{i}" for i in range(4)), ((f"r{best}",), rest), source="panel:random"))
    report = learned_report(store, Numbers(), "mara")
    assert (report.answers, report.predicted) == (11, before.predicted + 1)
    assert report.hits[-1] in (0.0, pytest.approx(1 / 3), pytest.approx(2 / 3), 1.0)
    assert report.left_share == before.left_share


def test_no_ceiling_below_what_was_reached(store):
    """Foreseen in most answers, and six of them contradicted: "more than 50 % is hardly possible" would be wrong."""
    for c in answers(store, 20, LIKES)[:6]:
        store.add(Comparison("mara", c.right, c.left, c.outcome, source="panel:repeat"))
    report = learned_report(store, Numbers(), "mara")
    assert (report.repeats, report.ceiling) == (6, None)
    assert report.accuracy > 0.5 and report.ceiling_interval[1] < 1.0


def test_pairs_that_were_picked_teach_and_do_not_count(store):
    answers(store, 20, LIKES, source="panel")
    assert learned_report(store, Numbers(), "mara").predicted == 0
    assert learned_report(store, Numbers(), "mara", uncounted=()).predicted == 19


def test_repeats_raise_no_accuracy_and_give_the_ceiling(store):
    for c in answers(store, 20, LIKES)[:6]:
        swapped = {"left": "right", "right": "left"}[c.outcome]
        store.add(Comparison("mara", c.right, c.left, swapped, source="panel:repeat"))
    report = learned_report(store, Numbers(), "mara")
    assert (report.predicted, report.repeats, report.ceiling) == (19, 6, 1.0)
    assert report.ceiling_interval[0] < 0.8


def test_a_coin_has_no_taste_that_is_good_enough(store):
    """Every pair once for each side: nothing to learn, and nothing more would help."""
    for index, one in enumerate(answers(store, 150, LIKES)):
        store.change(one.id, "left" if index % 2 else "right")
    report = learned_report(store, Numbers(), "mara")
    assert not report.enough
    assert report.advice


def test_a_stranger_knows_nothing_of_the_person(store):
    """Whatever the person answers, the others' tastes stay what they are, and nobody's pictures are encoded for it."""
    for index in range(4):
        answers(store, 30, np.roll(LIKES, index), person=f"other {index}", seed=index + 1)
    given = answers(store, 60, LIKES)
    alone = others_weights(store, "numbers", "mara")
    for one in given:
        store.change(one.id, "left" if one.outcome == "right" else "right")
    store.add(Comparison("other 0", "a" * 64, "b" * 64, "left"))
    np.testing.assert_array_equal(others_weights(store, "numbers", "mara"), alone)
    assert others_weights(store, "another encoder", "mara") is None


def test_others_who_change_their_minds_are_learned_from_again(store):
    given = answers(store, 30, LIKES, person="bo")
    before = others_weights(store, "numbers", "mara")
    for one in given:
        store.change(one.id, "left" if one.outcome == "right" else "right")
    np.testing.assert_allclose(others_weights(store, "numbers", "mara"), -before, atol=1e-6)


def test_others_count_as_soon_as_their_pictures_are_known(store):
    def know(kind, count):
        draw = np.random.default_rng(count).normal(size=(count, 4)).astype(np.float32)
        store.put_vectors("numbers", {f"{kind * 4}{i:060x}": vector for i, vector in enumerate(draw)})

    know("a", 70)
    for i in range(10):
        store.add(Comparison("ben", f"bbbb{2 * i:060x}", f"bbbb{2 * i + 1:060x}", "left"))
    assert others_weights(store, "numbers", "mara") is None
    know("b", 20)  # 90: not many more
    assert others_weights(store, "numbers", "mara") is not None


def test_of_a_ranking_nothing_is_looked_at_again(store):
    """The worst of three is called the best, among a hundred consistent pairs."""
    answers(store, 100, LIKES)
    pictures = np.array([LIKES, 0 * LIKES, -LIKES]) / np.linalg.norm(LIKES)
    store.put_vectors("numbers", {f"r{i}": vector for i, vector in enumerate(pictures)})
    store.add_ranking(Ranking("mara", ("r0", "r1", "r2"), (("r2",), ("r1",), ("r0",))))
    assert all(one.comparison.ranking is None for one in second_look(store, Numbers(), "mara"))


def test_a_taste_with_a_half_life_is_measured_with_it(store):
    """Who turned to the opposite half way is foreseen better by what forgets."""
    day = 86_400.0
    for k, weights in enumerate((LIKES, -LIKES)):
        for index, one in enumerate(answers(store, 40, weights, person=f"part {k}", seed=k)):
            store.add(Comparison("mara", one.left, one.right, one.outcome, created=day * (40 * k + index + 1)))
    plain, forgetting = (measured_taste(store, Numbers(), "mara", half_life=days).accuracy for days in (None, 5.0))
    assert forgetting.share > plain.share + 0.1


def test_what_sets_imply_counts_in_parts_and_is_said_with_one_decimal():
    report = LearningReport("mara", 31, 28, 38 / 3, 0.4524, (0.29, 0.63), 0.5, 0.75)
    assert report.summary.startswith("Predicted 12.7 of 28 answers")
