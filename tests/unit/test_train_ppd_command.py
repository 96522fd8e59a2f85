"""`palate train ppd`, from a store to a file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import steering_models as tiny
from palate.adapters.comparisons import Comparison, PreferenceStore
from palate.adapters.files.ppd_file import load_ppd
from palate.adapters.finetune.protocol import STOP, STOPPED, Failed, Finished, Prepared, Sampled, Stepped, read_line
from palate.adapters.ppd import training as loop
from palate.ui.cli import main, parser
from PIL import Image


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A training on four people's answers that takes a moment."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    monkeypatch.setenv("PALATE_HOME", str(tmp_path / "home"))
    with PreferenceStore(tmp_path / "home" / "store") as store:
        ids = [store.add_image(Image.new("RGB", (16, 16), (20 * k, 10, 10))) for k in range(8)]
        for person in range(4):
            for k in range(3):
                store.add(Comparison(f"p{person}", ids[2 * k + person % 2], ids[2 * k + 1 - person % 2], "left"))
        store.add(Comparison("shy", ids[0], ids[1], "left"))
    model = tiny.write_pipeline(tmp_path / "tiny")
    quick = ["--steps", "2", "--batch", "2", "--size", "16", "--check-every", "2", "--device", "cpu", "--seed", "1"]
    return ["train", "ppd", "--model", str(model), "--encoder", str(model / "clip"), *quick]


def test_a_store_becomes_a_ppd_and_it_says_how_good_it_is(command: list[str], tmp_path: Path, capsys) -> None:
    assert main([*command, "--name", "friends"]) == 0
    told = capsys.readouterr()
    assert "the base" in told.out and "palate generate" in told.out
    assert "12 pairs of 4 people; left out: 1 of 1 people with fewer than 2." in told.err
    assert "people it never saw" in told.err and "step 2/2" in told.err
    load_ppd(tmp_path / "home" / "ppd" / "friends.safetensors")
    assert list((tmp_path / "home" / "training" / "ppd-friends" / "tensorboard").glob("events.*"))


def test_lines_for_another_program_and_stopping(command: list[str], tmp_path: Path, capsys, monkeypatch) -> None:
    step, folder = loop.Stepper.step, tmp_path / "home" / "training" / "ppd-people"

    def stopping(self, number: int):
        (folder / STOP).write_text("")
        return step(self, number)

    monkeypatch.setattr(loop.Stepper, "step", stopping)
    assert main([*command, "--json"]) == STOPPED
    monkeypatch.undo()
    monkeypatch.setenv("PALATE_HOME", str(tmp_path / "home"))
    stopped = [read_line(line) for line in capsys.readouterr().out.splitlines()]
    assert isinstance(stopped[0], Prepared) and isinstance(stopped[-1], Stepped) and stopped[-1].step == 1
    assert main([*command, "--json", "--held-out", "0.3"]) == 2
    failed = read_line(capsys.readouterr().out.splitlines()[-1])
    assert isinstance(failed, Failed) and "begun with held out " in failed.text
    assert main([*command, "--json", "--sample-every", "2", "--anew"]) == 0
    events = [read_line(line) for line in capsys.readouterr().out.splitlines()]
    assert isinstance(events[-1], Finished) and Path(events[-1].file).is_file()
    (sampled,) = [event for event in events if isinstance(event, Sampled)]
    assert sampled.files and all(Path(file).is_file() for file in sampled.files)


def test_mistakes_are_one_sentence(command: list[str], tmp_path: Path, capsys) -> None:
    for more, match in [
        (["--loss", "rpo"], "loss 'rpo'; expected one of"),
        (["--person", "p1"], "pairs of 1 people"),
        (["--person", "p1", "--data", "x"], "expected --person or --data"),
        (["--data", str(tmp_path / "nowhere")], "no such folder"),
        (["--model", str(tmp_path / "nowhere")], "Cannot load"),
    ]:
        assert main([*command, *more]) == 2
        assert match in capsys.readouterr().err


def test_the_help_says_what_is_needed(capsys) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["train", "ppd", "--help"])
    shown = capsys.readouterr().out
    assert "answers of several people" in shown and "accelerate launch" in shown and "--sample-every N" in shown
