"""The study align, tiny: every loss has its row, and is judged by true utility beside the base."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch
from palate.adapters.finetune.settings import TrainSettings
from palate.adapters.playground.people import FEATURES, Person
from palate.adapters.steering import Generator
from palate.adapters.studies import _bench, align
from palate.adapters.studies._gains import Gain, furthest, gain_of
from palate.adapters.studies._painter import Seen
from palate.adapters.studies._postcards import Answers, Postcards
from palate.adapters.studies._tuning import Tuned


class Album:
    """A workshop whose pictures are known."""

    prompts = ("a star", "a moon")

    def __init__(self) -> None:
        named = {"subject": "star"}, {"subject": "star"}
        before, after = np.zeros((2, len(FEATURES))), np.zeros((2, len(FEATURES)))
        before[:, -1], after[:, -1] = (0.0, 2.0), (3.0, 1.0)
        self.before, self.after = (Seen(x, named, np.zeros((2, 1))) for x in (before, after))

    def base(self, seeds: int = 1, prompts: int | None = None) -> Seen:
        return self.before

    def look(self, tuned: Tuned, seeds: int = 1, prompts: int | None = None) -> Seen:
        return self.after


def test_a_gain_by_hand() -> None:
    """Utilities 0 and 2 become 3 and 1: +1 on average, by a standard deviation of 1; one of two is won."""
    person = Person("p", np.eye(len(FEATURES))[-1])
    found = gain_of(Album(), Tuned({}), person, diverse=1)
    assert (found.gain, found.wins, found.kept) == (1.0, 0.5, 1.0)
    assert found.diversity == pytest.approx(1.0)  # the two are as far apart as before


def test_each_loss_has_its_row(tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = Generator("playground")
    monkeypatch.setattr(_bench, "Generator", lambda *_: generator)
    losses = "rpo|cdpo, doubted|rpo, int8"
    assert align.run(["--quick", "--losses", losses, "--sampling", "1", "--cache", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    rows = [line.split("|")[1].strip() for line in printed.splitlines() if line.startswith("|")]
    tuned = [torch.load(file, weights_only=True) for file in tmp_path.glob("tuned-*")]
    whole, in_bytes = (one["state"] for one in sorted(tuned, key=lambda one: one["key"]) if "rpo" in one["key"])
    assert any(not torch.equal(value, in_bytes[name]) for name, value in whole.items())
    assert not any("Held" in type(layer).__name__ for layer in generator._pipeline.unet.modules())  # it paints whole
    assert rows == ["loss", "---", "rpo", "cdpo, doubted", "rpo, int8"] and "2 steps of 2 pairs" in printed


def test_a_loss_takes_the_rate_that_gains_most_elsewhere_and_keeps_the_prompts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []

    def learned(workshop, cards, name, seed, rate, options) -> align.Found:
        seen.append(seed)
        gain = {1e-3: 0.1, 3e-3: 0.4, 1e-2: 0.9}[rate]
        return align.Found(Gain(gain, 0.5, 0.85 if rate == 1e-2 else 0.95), Tuned({}), rate)

    monkeypatch.setattr(align, "learned", learned)
    options = align._options(["--rates", "1e-3,3e-3,1e-2", "--tuning", "2", "--utilities", "7", "--seed", "5"])
    assert align.own_rate(None, None, "sft", options) == 3e-3
    assert len(seen) == 6 and not set(seen) & set(range(5, 12))  # never those that are tested


def test_where_no_rate_keeps_enough_it_is_the_one_that_keeps_most() -> None:
    assert furthest({1e-3: (0.1, 0.5), 1e-2: (0.9, 0.2)}) == 1e-3
    assert furthest({1e-3: (0.1, 0.5), 1e-2: (0.9, 0.46)}, base=0.5) == 1e-2


def test_an_unknown_loss_is_named(capsys) -> None:
    with pytest.raises(SystemExit):
        align.run(["--losses", "dop"])
    assert "expected some of sft|dpo" in capsys.readouterr().err


@pytest.mark.parametrize(("loss", "draws"), [("dpo", 4), ("mapo", 0)])
def test_noise_is_fixed_only_where_a_reference_is_asked(loss: str, draws: int) -> None:
    """MaPO has no reference whose errors could be known ahead."""
    nothing = torch.zeros(1, 2, 1, 1, 1)
    cards = Postcards(("a star",), nothing, nothing[..., 0, 0], nothing[0, :1, :, 0, 0], nothing, np.zeros((1, 2, 1)))
    row = np.zeros(1, dtype=np.int64)
    answers = Answers(row, row, row + 1, np.ones(1), np.zeros(1, dtype=bool))
    given: list[TrainSettings] = []
    shop = argparse.Namespace(train=lambda data, settings, which, known: given.append(settings))
    options = align._options(["--fixed-noise", "4"])
    align.trained(shop, cards, answers, loss, 0, options, 3e-3)
    assert given[0].fixed_noise == draws and given[0].loss == loss
