"""Agreement with oneself, sides and the pair to ask again; the arithmetic is in the docstrings."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from palate.adapters.comparisons import Comparison
from palate.adapters.taste.bias import side_bias
from palate.adapters.taste.ceiling import REPEAT, accuracy_ceiling, ceiling_of, equal_accuracy, pair_to_repeat
from palate.adapters.taste.shares import wilson_interval
from PIL import Image


def answer(left, right, outcome="left", source="panel:random"):
    return Comparison("mara", left, right, outcome, source=source)


def twice(pair, same, source="panel:random"):
    """A pair, asked again with sides swapped; the same picture is chosen or the other one."""
    left, right = f"{pair}a", f"{pair}b"
    return [answer(left, right, source=source), answer(right, left, "right" if same else "left", REPEAT)]


def test_the_accuracy_of_equally_hard_pairs_by_hand():
    """p = 0.9: r = 0.81 + 0.01 = 0.82. Below one half nobody is worse than a coin."""
    assert equal_accuracy(0.82) == pytest.approx(0.9)
    assert (equal_accuracy(1.0), equal_accuracy(0.5), equal_accuracy(0.2)) == (1.0, 0.5, 0.5)


def test_the_ceiling_lies_two_thirds_up_by_hand():
    """r = 0.82: 0.82 + 2/3 (0.9 - 0.82) = 0.87333."""
    assert accuracy_ceiling(0.82) == pytest.approx(0.873333, abs=1e-6)
    assert (accuracy_ceiling(1.0), accuracy_ceiling(0.5), accuracy_ceiling(0.0)) == (1.0, 0.5, 0.5)


@pytest.mark.parametrize("spread", [1.5, 3.0, 4.0, 8.0])
def test_the_ceiling_of_bradley_terry_answers_is_near_the_true_one(spread):
    p = 1.0 / (1.0 + np.exp(-spread * np.abs(np.random.default_rng(0).standard_normal(200_000))))
    assert accuracy_ceiling(float((p**2 + (1 - p) ** 2).mean())) == pytest.approx(p.mean(), abs=0.008)


@pytest.mark.parametrize("mistakes", [0.0, 0.2])
def test_the_interval_of_the_ceiling_holds_the_true_one(mistakes):
    """Two thousand people who answer twenty pairs twice: it should hold for about 95 % of them."""
    generator = np.random.default_rng(0)
    surer = (1.0 - mistakes) * np.tanh(2.0 * np.abs(generator.standard_normal((2000, 20))))
    agreed = (generator.random((2000, 20)) < (1.0 + surer**2) / 2.0).sum(axis=1)
    ends = np.array([[accuracy_ceiling(end) for end in wilson_interval(count, 20)] for count in range(21)])[agreed]
    true = 0.5 + 0.5 * surer.mean()
    assert 0.92 < ((ends[:, 0] <= true) & (true <= ends[:, 1])).mean() < 0.99


def test_ten_repeats_nine_alike():
    """r = 0.9: equal 0.9472, ceiling 0.9 + 2/3 * 0.0472 = 0.9315."""
    found = ceiling_of([c for i in range(10) for c in twice(i, same=i > 0)])
    assert (found.repeats, found.agreed) == (10, 9)
    assert found.accuracy == pytest.approx(0.93148, abs=1e-4)
    assert 0.5 < found.interval[0] < found.accuracy < found.interval[1] < 1.0


def test_too_few_repeats_say_nothing():
    found = ceiling_of([c for i in range(4) for c in twice(i, same=True)])
    assert (found.repeats, found.accuracy, found.interval) == (4, None, (0.5, 1.0))
    assert ceiling_of([]).repeats == 0


def test_ties_second_looks_and_pairs_that_were_picked_are_no_repeats():
    odd = [answer("a", "b"), answer("a", "b", "right", "panel:second-look")]
    tied = [answer("c", "d"), answer("c", "d", "tie")]
    picked = twice("e", same=False, source="panel")
    assert ceiling_of(odd + tied + picked, uncounted=("panel",)).repeats == 0
    assert ceiling_of(odd + tied + picked).repeats == 1


def test_leaning_to_the_left_is_seen_by_hand():
    """15 of 20 to the left: Wilson 0.531 to 0.888, all of it above one half."""
    found = side_bias([answer(f"{i}a", f"{i}b", "left" if i < 15 else "right") for i in range(20)])
    assert (found.answers, found.share) == (20, 0.75)
    assert found.interval == (pytest.approx(0.531, abs=1e-3), pytest.approx(0.888, abs=1e-3))


def test_sides_that_nobody_tossed_say_nothing():
    wired = [answer(f"{i}a", f"{i}b", source="comfyui") for i in range(20)]
    assert side_bias(wired).share is None
    assert side_bias([*wired, *(answer(f"{i}c", f"{i}d", "tie") for i in range(9))]).answers == 0


def add(store, number, source="panel:random", outcome="left"):
    ids = [store.add_image(Image.new("RGB", (4, 4), (number, side, 0))) for side in (0, 1)]
    return store.add(Comparison("mara", *ids, outcome, source=source))


def test_a_pair_is_repeated_after_ten_answers_and_then_each_fifteen(store):
    for number in range(9):
        add(store, number)
    assert pair_to_repeat(store, "mara") is None
    add(store, 9)
    first = pair_to_repeat(store, "mara", generator=torch.Generator().manual_seed(0))
    assert first.id <= 4  # not one of the latest six
    store.add(Comparison("mara", first.right, first.left, "right", source=REPEAT))
    for number in range(10, 24):
        assert pair_to_repeat(store, "mara") is None
        add(store, number)
    second = pair_to_repeat(store, "mara")
    assert second is not None
    assert second.left != first.left  # each only once


def test_only_pairs_that_count_are_repeated_and_none_while_one_waits(store):
    for number in range(20):
        add(store, number, source="panel" if number != 3 else "panel:random")
    found = pair_to_repeat(store, "mara", uncounted=("panel",))
    assert found.id == 4
    store.offer("mara", found.right, found.left, source=REPEAT)
    assert pair_to_repeat(store, "mara", uncounted=("panel",)) is None


def test_pairs_whose_pictures_are_gone_are_not_repeated(store):
    for number in range(20):
        store.add(Comparison("mara", f"{number:064x}", f"{number + 50:064x}", "left"))
    assert pair_to_repeat(store, "mara") is None
