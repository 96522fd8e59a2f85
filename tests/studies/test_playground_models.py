"""The shipped models are as good as their card says, measured again on fewer pictures; bounds leave room for chance."""

from __future__ import annotations

import json
import re

import pytest
import torch
from palate.adapters.playground import playground_folder
from palate.adapters.playground.training import card

FOLDER = playground_folder()
SAID = json.loads((FOLDER / "card.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def pipeline():
    return card._pipeline(FOLDER)


def test_prompts_are_kept(pipeline) -> None:
    kept = card._prompts_kept(pipeline, 40)["kept"]
    # 40 prompts: three standard deviations of a share around 0.75 are 0.2.
    assert kept > SAID["prompts"]["kept"] - 0.2


def test_pictures_and_captions_find_each_other() -> None:
    found = card._retrieval(FOLDER, groups=3)
    assert min(found["caption_to_picture"], found["picture_to_caption"]) > 0.96
    assert found["at_most"] - 0.1 < found["the_very_picture"] <= found["at_most"] + 0.1


def test_the_autoencoder_keeps_the_picture(pipeline) -> None:
    assert card._round_trip(pipeline, 20)["decibels"] > 24


def test_one_seed_gives_the_same_bytes_twice(pipeline) -> None:
    first, again = (card._pictures(pipeline, ["a red star", "a small boat"], 5) for _ in range(2))
    assert [a.tobytes() for a in first] == [b.tobytes() for b in again]
    assert first[0].tobytes() != first[1].tobytes()


def test_the_files_are_small_and_hold_no_nan() -> None:
    from safetensors.torch import load_file

    assert sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file()) <= 25e6
    for file in FOLDER.rglob("*.safetensors"):
        assert all(bool(torch.isfinite(tensor.float()).all()) for tensor in load_file(file).values())


def test_the_card_says_what_was_measured() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    percent = re.search(r"\| ([\d.]+) % \(", text)
    assert percent is not None
    assert float(percent[1]) == pytest.approx(100 * SAID["prompts"]["kept"], abs=0.05)
