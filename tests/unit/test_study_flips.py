"""The study flips, tiny: every method runs, planted answers are told apart, and no training happens twice."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from palate.adapters.finetune.losses import PairErrors
from palate.adapters.playground.people import FEATURES, Person
from palate.adapters.steering import Generator
from palate.adapters.studies import _bench, flips
from palate.adapters.studies._gains import Gain
from palate.adapters.studies._minority import Watcher, auroc, by_measures, doubts_about, without_doubted
from palate.adapters.studies._postcards import Answers, Postcards, answered, flipped


def clear_cards(captions: int = 60, width: int = 6) -> Postcards:
    """Cards of which the vectors say all that there is to like."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.nn.functional.normalize(torch.randn(captions, 4, width, generator=generator), dim=-1)
    measured = np.zeros((captions, 4, len(FEATURES)))
    measured[..., :width] = vectors.double().numpy()
    nothing = torch.zeros(captions, 4, 1, 1, 1)
    return Postcards(("a star",) * captions, nothing, vectors, vectors[:, 0], torch.zeros(2, 1, 1), measured)


def answers_of(cards: Postcards, count: int = 300) -> Answers:
    weights = np.zeros(len(FEATURES))
    weights[:6] = (3.0, -2.0, 1.0, 2.0, -1.0, 0.5)
    return answered(Person("p", weights, noise=0.3), cards, count, random.Random(0))


def test_the_area_under_the_curve_by_hand() -> None:
    """Planted 3 and 1 against 2 and 1: above, even, above, below = (1 + 1 + 0 + 0.5) / 4."""
    assert auroc(np.array([3.0, 1.0, 2.0, 1.0]), np.array([True, True, False, False])) == 0.625
    assert np.isnan(auroc(np.array([1.0]), np.array([True])))


def test_a_taste_of_the_others_doubts_what_was_turned_over_and_knows_how_often() -> None:
    cards = clear_cards()
    given = flipped(answers_of(cards), 0.2, 0)
    doubts = doubts_about(cards, given).double().numpy()
    assert auroc(doubts, given.planted) > 0.9
    assert doubts[given.planted].mean() > 0.6 and doubts[~given.planted].mean() < 0.25


def test_the_doubted_answers_are_mostly_those_that_were_turned_over() -> None:
    """Of 60 planted among 300 most go, and of the others few; all that an answer consists of goes with it."""
    cards = clear_cards()
    given = flipped(answers_of(cards), 0.2, 0)
    kept = without_doubted(cards, given)
    assert kept.planted.sum() < 20 and (~kept.planted).sum() > 200
    assert len(kept.caption) == len(kept.truth) == len(kept) < len(given)


def test_a_watcher_keeps_each_visit() -> None:
    watcher = Watcher(beta=2.0)
    errors = PairErrors(*(torch.tensor([value, 0.1]) for value in (0.3, 0.1, 0.2, 0.2)))
    watcher([4, 7], errors, [errors, errors])
    kept = watcher.kept()
    assert kept["rows"].tolist() == [4, 7] and kept["released"].tolist() == [0.0, 0.0]  # no spread, no doubt
    assert kept["score"][0] > kept["score"][1] == 0.0 and kept["confidence"][0] > 0.5


def test_measures_outvote_an_answer() -> None:
    """The chosen one is darker, duller and less like its caption, so all three are against it."""
    cards = clear_cards(1)
    cards.measured[0, 1, [FEATURES.index("brightness"), FEATURES.index("colourfulness")]] = 1.0
    cards.vectors[0, 1] = cards.texts[0]
    cards.vectors[0, 0] = -cards.texts[0]
    place, one = np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.int64)
    voted = by_measures(cards, Answers(place, place, one, np.array([2.0]), np.array([False])))
    assert voted.chosen.tolist() == [1] and voted.truth.tolist() == [-2.0]
    assert by_measures(cards, voted).chosen.tolist() == [1]


def test_share_of_the_gain_by_hand() -> None:
    clean, found = ([Gain(gain, 0.5, 1.0) for gain in gains] for gains in ((0.2, 0.4), (0.1, 0.35)))
    assert flips._cells(found, clean, 0)[1].startswith("75 (50 to 88")


def test_it_runs_and_trains_nothing_twice(tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = Generator("playground")
    monkeypatch.setattr(_bench, "Generator", lambda *_: generator)
    argv = ["--quick", "--cache", str(tmp_path), "--rates", "0.3", "--sampling", "1"]
    argv += ["--methods", "released|doubted by"]
    assert flips.run(argv) == 0
    first = capsys.readouterr().out
    rows = [line.split("|")[1].strip() for line in first.splitlines() if line.startswith("|")]
    assert rows.count("cDPO, doubted by a taste of the others") == rows.count("Adaptive-DPO as released") == 1
    assert "oracle: true utility" in rows and "`palate study flips --quick" in first
    monkeypatch.setattr("palate.adapters.studies._tuning.train_lora", None)
    assert flips.run(argv) == 0
    again = capsys.readouterr().out
    assert first.rsplit("\n", 2)[0] == again.rsplit("\n", 2)[0]
