"""From a person's answers to a LoRA file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from finetune_small import QUICK, grey_pairs
from palate.adapters.errors import CancelledError, FineTuneError
from palate.adapters.files.lora_file import load_lora_file
from palate.adapters.finetune.pairs import split_pairs
from palate.adapters.finetune.personal import train_personal_lora


def test_a_stopped_contrast_does_not_go_on_with_another_encoder(folder: Path, tmp_path: Path) -> None:
    pairs, told = grey_pairs(tmp_path), list[int]()
    settings = replace(QUICK, size=16, loss="rpo", batch=4, steps=2)

    def train(identity: str, cancelled) -> None:
        told.clear()
        encoder = SimpleNamespace(
            identity=identity,
            has_text=False,
            encode_images=lambda pictures: torch.linspace(1, 2, 4 * len(pictures)).view(-1, 4),
        )
        more = {"on_step": lambda one: told.append(one.step), "cancelled": cancelled}
        train_personal_lora(folder, pairs, settings, tmp_path / "run", tmp_path / "mara", encoder=encoder, **more)

    with pytest.raises(CancelledError):
        train("one", lambda: bool(told))
    with pytest.raises(FineTuneError, match="begun with another model"):
        train("another", lambda: False)
    train("one", lambda: False)
    assert told == [2]


def test_a_stopped_one_goes_on_with_its_answers_though_others_are_doubted_now(folder: Path, tmp_path: Path) -> None:
    pairs, told, dropped = grey_pairs(tmp_path, 12), list[int](), list[int]()
    doubted = split_pairs(pairs)[0][0]

    def train(known: bool, stop: bool = False) -> None:
        signs = {pair: -1.0 if pair == doubted else 1.0 for pair in pairs} if known else {}
        vectors = {getattr(pair, side): np.array([sign * way, 1.0], np.float32)
                   for pair, sign in signs.items() for side, way in (("chosen", 1), ("rejected", -1))}  # fmt: skip
        settings, places = replace(QUICK, size=16), (tmp_path / "run", tmp_path / "mara")
        more = {"on_step": lambda one: told.append(one.step), "cancelled": lambda: stop and bool(told)}
        dropped.append(train_personal_lora(folder, pairs, settings, *places, vectors=vectors, **more).dropped)

    for first, later in ((False, True), (True, False)):
        told.clear()
        with pytest.raises(CancelledError):
            train(first, stop=True)
        train(later)
        assert told == [1, 2, 3, 4, 5, 6]
    assert dropped == [0, 1]
    train(False)  # it ended, so what is known now counts
    assert told == [1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6] and dropped == [0, 1, 0]


def test_from_answers_to_a_file(folder: Path, tmp_path: Path) -> None:
    pairs = grey_pairs(tmp_path)
    told: list[int] = []
    places = tmp_path / "run", tmp_path / "mara"
    settings = replace(QUICK, size=16, learning_rate=None)
    found = train_personal_lora(folder, pairs, settings, *places, "mara", on_step=lambda one: told.append(one.step))
    assert told == [1, 2, 3, 4, 5, 6] and (found.pairs, found.held_out) == (5, 3)
    _, about = load_lora_file(found.file)
    assert about["palate.person"] == "mara" and about["palate.pairs"] == "8" and "did not see" in found.trained.summary
    assert float(about["palate.learning_rate"]) == pytest.approx(3e-3)  # a small model's
    assert float(about["palate.held_out_accuracy"]) == pytest.approx(found.trained.best.accuracy, abs=1e-4)
