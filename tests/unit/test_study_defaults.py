"""The study defaults, tiny: every rival trains on what is not held out; what users are told stands beside the truth."""

from __future__ import annotations

import pytest
from palate.adapters.finetune.settings import TrainSettings
from palate.adapters.steering import Generator
from palate.adapters.studies import _bench, defaults
from palate.adapters.studies._gains import Gain
from palate.adapters.studies._tuning import Tuned


def test_who_was_told_wrongly_is_counted() -> None:
    """Three people: better and told so, worse and told better, worse and told worse."""
    told = [(0.4, True), (-0.1, True), (-0.2, False)]
    found = [(Gain(gain, 0.5, 1.0), Tuned({}, 100, better=better, accuracy=0.6)) for gain, better in told]
    options = defaults._options(["--people", "3"])
    ahead = [(Gain(gain + 0.5, 0.5, 1.0), tuned) for (gain, _), (_, tuned) in zip(told, found, strict=True)]
    printed = defaults._report([], options, {("as settled", 20): found, ("mapo", 20): ahead}, 60.0)
    assert "| 20 | mapo | +0.53 (+0.30 to +0.90) | +0.50 (+0.50 to +0.50) |" in printed  # each beside their own
    row = next(line for line in printed.splitlines() if line.startswith("| 20 |"))
    assert "| as settled | +0.03 (" in row and "| 60 | 2 of 3 | 1 of 2 | 100 |" in row


def test_rivals_train_and_are_judged(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = Generator("playground")
    monkeypatch.setattr(_bench, "Generator", lambda *_: generator)
    monkeypatch.setattr("palate.adapters.finetune.judging.DRAWS", 1)
    seen: list[int] = []
    ways = defaults.pairs_of
    monkeypatch.setattr(defaults, "pairs_of", lambda cards, answers: seen.append(len(answers)) or ways(cards, answers))
    assert defaults.run(["--quick", "--rivals", "mapo", "--sampling", "1"]) == 0
    assert seen == [5, 3] and "| 8 | mapo |" in capsys.readouterr().out


def test_a_rival_is_a_loss_and_its_rate() -> None:
    assert defaults.rival("mapo at 0.003") == TrainSettings(loss="mapo", learning_rate=0.003, drop_doubted=False)
    assert defaults.rival(defaults.SETTLED) == TrainSettings()


@pytest.mark.parametrize("name", ["best", "mapo at once"])
def test_an_unknown_rival_is_named(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        defaults.run(["--rivals", name])
    assert name in capsys.readouterr().err
