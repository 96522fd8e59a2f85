"""The study bt-accuracy, tiny: the same table for the same seed, and each method what it says it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from palate.adapters.comparisons import Comparison, PreferenceStore
from palate.adapters.errors import NotEnoughAnswersError
from palate.adapters.steering import adapt_text_embedding
from palate.adapters.studies import bt_accuracy
from palate.adapters.studies._accuracy_questions import SCALES, STEPS, step_log_odds, step_table
from palate.adapters.studies._samples import Sample, simulated_samples
from palate.adapters.studies._tables import bootstrap_interval, markdown
from PIL import Image


class TinyEncoder:
    """A 3 x 3 thumbnail as the vector, letters as the text's; nothing trained."""

    identity, name, dim, has_text, text_projection = "t1", "tiny", 27, True, None

    def encode_images(self, images, batch_size=16):
        small = [np.asarray(image.resize((3, 3)), np.float32).reshape(-1) / 255 - 0.5 for image in images]
        return torch.nn.functional.normalize(torch.from_numpy(np.stack(small)), dim=-1)

    def encode_texts(self, texts, batch_size=64):
        counts = [[text.count(chr(97 + i % 26)) + 0.1 for i in range(27)] for text in texts]
        return torch.nn.functional.normalize(torch.tensor(counts), dim=-1)


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(bt_accuracy, "load_encoder", lambda spec: TinyEncoder())


SMALL = ["--people", "2", "--tuning-people", "1", "--captions", "2", "--test-pairs", "20", "--support", "1,4"]


def accuracies(output):
    """Everything printed but the times."""
    return output.split("Time in ms")[0]


def test_the_same_seed_prints_the_same_table(tiny, capsys):
    printed = []
    for _ in range(2):
        assert bt_accuracy.run([*SMALL, "--seed", "5"]) == 0
        printed.append(capsys.readouterr().out)
    assert accuracies(printed[0]) == accuracies(printed[1])
    rows = [line.split("|")[1].strip() for line in printed[0].split("\n\n")[1].splitlines()[2:]]
    assert rows == [*(method.name for method in bt_accuracy.METHODS), "a stranger's taste", "true utility"]
    assert f"`palate study bt-accuracy {' '.join(SMALL)} --seed 5` · seed 5 · " in printed[0]


def test_true_utility_agrees_with_about_87_percent():
    samples = simulated_samples(TinyEncoder(), people=4, support=2, tests=400, captions=6, seed=1)
    agreement = [bt_accuracy._accuracy(s, s.truth) for s in samples]
    assert np.mean(agreement) == pytest.approx(0.87, abs=0.04)


def test_captions_to_learn_from_are_not_those_of_the_test_and_people_differ():
    one, other = simulated_samples(TinyEncoder(), people=2, support=3, tests=5, captions=4, seed=0)
    assert one.chosen.shape == one.rejected.shape == (3, 27)
    assert one.difference.shape == one.text.shape == (5, 27)
    assert not np.array_equal(one.chosen, other.chosen)
    other_seed = simulated_samples(TinyEncoder(), people=1, support=3, tests=5, captions=4, seed=1)[0]
    assert not np.array_equal(one.chosen, other_seed.chosen)


def sample(seed=0, support=6, tests=9, width=4):
    generator = np.random.default_rng(seed)
    sides = generator.standard_normal((2, support, width))
    return Sample(
        "p",
        sides[0],
        sides[1],
        generator.standard_normal((tests, width)),
        generator.standard_normal((tests, width)),
        generator.random(tests) < 0.5,
    )


@pytest.mark.parametrize(("name", "objective"), [("closed-form step", "bradley_terry"), ("positive only", "positive")])
def test_a_step_is_that_of_adapt_text_embedding(name, objective):
    method = next(method for method in bt_accuracy.METHODS if method.name == name)
    s, setting = sample(), method.settings[1]
    scale, size = setting if isinstance(setting, tuple) else (1.0, setting)
    found = method.log_odds(s, 3, s, setting)
    for x, difference, log_odds in zip(s.text, s.difference, found, strict=True):
        adapted = adapt_text_embedding(
            torch.from_numpy(x),
            torch.from_numpy(s.chosen[:3]),
            torch.from_numpy(s.rejected[:3]),
            step_size=size,
            logit_scale=scale,
            objective=objective,
        )
        assert log_odds == pytest.approx(float(adapted @ torch.from_numpy(difference)))


def test_several_steps_are_those_of_adapt_text_embedding():
    s = sample()
    found = step_log_odds(s, 3, s, steps=4, reach=5.0, scale=10.0)
    sides = (torch.from_numpy(side[:3]) for side in (s.chosen, s.rejected))
    adapted = adapt_text_embedding(torch.from_numpy(s.text[2]), *sides, steps=4, step_size=0.5, logit_scale=10.0)
    assert found[2] == pytest.approx(float(adapted @ torch.from_numpy(s.difference[2])))


def test_the_table_of_steps_stars_what_is_best_for_the_others():
    table = step_table([sample(1, tests=60)], [sample(2, tests=60)], 6)
    assert len(table.split("\n\n")[1].splitlines()) == 2 + len(STEPS) * len(SCALES)
    assert table.split("\n\n")[1].count("*") == 1
    assert "*" not in step_table([], [sample(2)], 6).split("\n\n")[1]


def test_other_encoders_have_a_table_of_their_own(tiny, monkeypatch, capsys):
    seen = [("one", TinyEncoder()), ("two", TinyEncoder())]
    monkeypatch.setattr(bt_accuracy, "_samples", lambda options, encoder: ([sample(1)], [sample(2), sample(3)]))
    monkeypatch.setattr(bt_accuracy, "other_encoders", lambda encoder: iter(seen))
    assert bt_accuracy.run([*SMALL, "--steps", "--encoders"]) == 0
    steps, encoders = capsys.readouterr().out.split("Accuracy in %")[2:]
    assert "step size x logit scale" in steps
    one, two = (line.split("|")[2:-2] for line in encoders.splitlines()[4:6])
    assert one == two


def test_each_method_may_try_as_many_settings():
    assert {len(method.settings) for method in bt_accuracy.METHODS} == {1, 7}


def test_tuning_takes_what_predicts_these_people_best():
    """A method that is right with setting 2 only."""
    s = sample()
    right = np.where(s.left, 1.0, -1.0)
    method = bt_accuracy.Method("m", (1, 2, 3), lambda learn, n, test, value: right if value == 2 else -right)
    assert bt_accuracy._tune(method, 1, [s]) == 2


def test_an_even_guess_is_half_right():
    s = sample()
    assert bt_accuracy._accuracy(s, np.zeros(len(s.left))) == 0.5


def test_interval_of_people_who_are_all_alike_is_a_point():
    assert bootstrap_interval(np.full(5, 0.7), seed=0) == (pytest.approx(0.7), pytest.approx(0.7))
    low, high = bootstrap_interval(np.arange(10.0), seed=0)
    assert 2.0 < low < 4.5 < high < 7.0


def test_markdown_by_hand():
    assert markdown(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | ---: |\n| 1 | 2 |\n"


def test_real_answers_of_a_store(tiny, tmp_path, capsys):
    """Five people, one with too few answers; no true utility, so no ceiling."""
    generator = np.random.default_rng(0)
    with PreferenceStore(tmp_path) as store:
        colours = [tuple(int(v) for v in generator.integers(0, 256, 3)) for _ in range(8)]
        ids = [store.add_image(Image.new("RGB", (8, 8), colour)) for colour in colours]
        for person, count in (("a", 9), ("b", 9), ("c", 9), ("d", 9), ("few", 3)):
            for _ in range(count):
                left, right = generator.choice(8, 2, replace=False)
                outcome = "left" if colours[left][0] > colours[right][0] else "right"
                store.add(Comparison(person, ids[left], ids[right], outcome, prompt="a red star"))
    assert bt_accuracy.run(["--data", str(tmp_path), "--support", "2,4", "--test-pairs", "5"]) == 0
    printed = capsys.readouterr().out
    assert "of 3 people of the store" in printed
    assert "tuned on 1 others" in printed
    assert "true utility |" not in printed
    with pytest.raises(NotEnoughAnswersError, match="more than 50 answers"):
        bt_accuracy.run(["--data", str(tmp_path)])


def test_nonsense_options_are_refused(capsys):
    for option in (["--support", "0,1"], ["--people", "0"], ["--support", "x"]):
        with pytest.raises(SystemExit):
            bt_accuracy.run(option)
    assert "expected 1 or more" in capsys.readouterr().err
