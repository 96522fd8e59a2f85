"""The studies second-look and stop, tiny: detectors on answers made of numbers, and what their tables hold."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from palate.adapters.comparisons import Comparison, PreferenceStore
from palate.adapters.studies import second_look, stop
from palate.adapters.studies._detectors import DETECTORS, SHIPPED, found_at
from palate.adapters.studies._samples import Sample
from PIL import Image


class TinyEncoder:
    """A 3 x 3 thumbnail as the vector; nothing trained."""

    identity, name, dim, has_text, text_projection = "t1", "tiny", 27, False, None

    def encode_images(self, images, batch_size=16):
        small = [np.asarray(image.resize((3, 3)), np.float32).reshape(-1) / 255 - 0.5 for image in images]
        return torch.nn.functional.normalize(torch.from_numpy(np.stack(small)), dim=-1)


def sample(count=120, seed=0):
    """Answers by the first of four numbers, without noise."""
    generator = np.random.default_rng(seed)
    pairs = generator.standard_normal((2, count, 4))
    left = (pairs[0] > pairs[1])[:, :1]
    chosen, rejected = np.where(left, pairs[0], pairs[1]), np.where(left, pairs[1], pairs[0])
    tests = generator.standard_normal((50, 4))
    return Sample(
        "mara",
        chosen,
        rejected,
        tests,
        np.zeros((50, 4)),
        tests[:, 0] > 0,
        5.0 * tests[:, 0],
        (chosen - rejected)[:, 0],
    )


def test_found_by_hand():
    """Ten others at 0 to 0.9: the odder tenth begins at the quantile 0.81; of three slips one lies above, one below."""
    suspicion = np.array([*np.arange(10) / 10, 1.0, 0.5, 0.81])
    planted = np.arange(13) >= 10
    assert found_at(suspicion, planted, 0.1) == pytest.approx(0.5)
    assert found_at(np.zeros(13), planted, 0.1) == 0.5


def test_planting_turns_a_share_over():
    rows, given, planted = second_look.plant(sample(), 40, 0.1, np.random.default_rng(0))
    assert (rows.shape, planted.sum()) == ((40, 4), 4)
    assert (given[planted] < 0).all()
    assert (given[~planted] > 0).all()
    np.testing.assert_allclose(rows[:, 0], given)


@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector_finds_gross_slips(name):
    rows, given, planted = second_look.plant(sample(), 120, 0.1, np.random.default_rng(0))
    found = found_at(DETECTORS[name](rows), planted, 0.1)
    assert found > (0.15 if name.startswith("Adaptive-DPO: confidence x") else 0.5)
    assert found_at(-given, planted, 0.1) == 1.0


def test_second_look_prints_its_tables(monkeypatch, capsys):
    monkeypatch.setattr(second_look, "load_encoder", lambda spec: TinyEncoder())
    small = ["--people", "2", "--captions", "2", "--support", "20", "--mistakes", "10", "--draws", "1"]
    assert second_look.run([*small, "--seed", "3"]) == 0
    printed = capsys.readouterr().out
    names = [line.split("|")[1].strip() for line in printed.split("\n\n")[1].splitlines()[2:]]
    assert names == [*DETECTORS, "oracle: true utility"]
    assert SHIPPED in names
    assert "`palate study second-look" in printed


def course(accuracy, counts=(100, 200, 300, 400), enough=(False, True, True, True)):
    return stop.Course(np.array(counts, float), np.array(accuracy), enough)


def test_a_course_by_hand():
    """Half way between 100 and 200 answers: 0.75; 100 later half way to 300: 0.81."""
    found = course([0.7, 0.8, 0.82, 0.83])
    assert (found.said, found.last) == (200.0, 300.0)
    assert found.raised(150, 100) == pytest.approx(0.06)
    assert course([0.7] * 4, enough=(False,) * 4).said == 300.0


def test_what_is_needed_by_hand():
    """accuracy = 0.9 - 0.4 / (1 + n / 50): at 240 the next 100 add 0.4 (1 / 5.8 - 1 / 7.8) = 0.0177, at 210 0.0213."""
    counts = np.arange(10.0, 701.0, 10.0)
    found = stop.needed(stop.Course(counts, 0.9 - 0.4 / (1 + counts / 50), (False,) * len(counts)))
    assert 205 <= found <= 240
    assert stop.needed(course([0.7] * 4)) == 10.0


def test_accuracy_is_that_of_the_answers_expected():
    """The taste prefers what the person does: the mean of max(p, 1 - p)."""
    one = sample()
    model = stop.BradleyTerry(1.0).fit(one.chosen, one.rejected)
    assert 0.8 < stop._accuracy(one, model) <= float((1 / (1 + np.exp(-np.abs(one.truth)))).mean())


def test_stop_prints_its_table(monkeypatch, capsys):
    monkeypatch.setattr(stop, "load_encoder", lambda spec: TinyEncoder())
    small = ["--people", "2", "--tuning-people", "1", "--captions", "2", "--most", "140", "--test-pairs", "20"]
    assert stop.run([*small, "--mistakes", "0", "--seed", "3"]) == 0
    rows = [line.split("|")[1].strip() for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert rows[2:4] == ["**0 % mistakes**", "`enough`"]
    assert rows[4].startswith("always after ")
    assert rows[5] == "oracle: where needed"
    with pytest.raises(SystemExit):
        stop.run(["--most", "100"])


@pytest.fixture
def folder(tmp_path):
    """A store in which one person prefers the brighter of two plain pictures, 150 times."""
    with PreferenceStore(tmp_path / "store") as store:
        shades = [store.add_image(Image.new("RGB", (6, 6), (8 * i, 255 - 8 * i, 4 * i))) for i in range(30)]
        for number, (first, second) in enumerate(itertools.islice(itertools.combinations(range(30), 2), 150)):
            left, right = (first, second) if number % 2 else (second, first)
            store.add(Comparison("mara", shades[left], shades[right], "left" if left > right else "right"))
    return str(tmp_path / "store")


def test_real_people_have_no_oracle(folder, monkeypatch, capsys):
    monkeypatch.setattr(second_look, "load_encoder", lambda spec: TinyEncoder())
    assert second_look.run(["--data", folder, "--support", "40", "--mistakes", "10", "--draws", "1"]) == 0
    printed = capsys.readouterr().out
    assert "oracle" not in printed
    assert "1 people of the store" in printed
    assert "against the true utility" not in printed


def test_real_people_stop_by_their_held_out_answers(folder, monkeypatch, capsys):
    monkeypatch.setattr(stop, "load_encoder", lambda spec: TinyEncoder())
    assert stop.run(["--data", folder, "--most", "120", "--test-pairs", "25", "--mistakes", "0"]) == 0
    assert "of 1 people of the store" in capsys.readouterr().out
