"""Doubts about answers: what a taste of the others says of each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from palate.adapters.finetune.doubts import MISTAKEN, doubts_of, is_doubted
from palate.adapters.finetune.pairs import LabelledPair
from palate.adapters.finetune.personal import _known
from PIL import Image


def answers(count: int, mistaken: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Chosen, rejected (N, 6) by a clear utility, and which were turned over (N,)."""
    rng = np.random.default_rng(seed)
    first, second = rng.standard_normal((2, count, 6))
    weights = np.array([3.0, -2.0, 1.0, 2.0, -1.0, 0.5])
    wins = ((first - second) @ weights > 0)[:, None]
    chosen, rejected = np.where(wins, first, second), np.where(wins, second, first)
    turned = np.arange(count) < round(mistaken * count)
    return np.where(turned[:, None], rejected, chosen), np.where(turned[:, None], chosen, rejected), turned


def test_what_was_turned_over_is_doubted_and_the_rest_is_not() -> None:
    chosen, rejected, turned = answers(300, 0.2)
    doubts = doubts_of(torch.from_numpy(chosen), torch.from_numpy(rejected)).numpy()
    assert doubts[turned].mean() > 0.6 and doubts[~turned].mean() < 0.2
    assert doubts[turned].min() > 0 and doubts[turned].max() < 1


def test_an_answer_is_not_asked_about_itself() -> None:
    """Turned over, a clear answer's doubt turns over, too, about the share of mistakes reckoned with."""
    chosen, rejected, _ = answers(60, 0.0)
    before = doubts_of(chosen, rejected).numpy()
    clear = int(before.argmin())
    chosen[clear], rejected[clear] = rejected[clear].copy(), chosen[clear].copy()
    after = doubts_of(chosen, rejected).numpy()
    told = np.log(MISTAKEN / (1 - MISTAKEN))
    first, second = (np.log(doubts[clear] / (1 - doubts[clear])) - told for doubts in (before, after))
    assert first < -2 and second == pytest.approx(-first, rel=0.5)


def test_where_the_others_know_nothing_each_has_the_same_doubt() -> None:
    same = np.ones((4, 3))
    assert doubts_of(same, same).numpy() == pytest.approx(MISTAKEN)


class Light:
    """How bright a picture is, and one; no text side."""

    has_text = False

    def encode_images(self, images: list[Image.Image]) -> torch.Tensor:
        return torch.tensor([[np.asarray(image).mean() / 255.0, 1.0] for image in images])


def test_cdpo_doubts_the_one_answer_against_all_others_and_other_losses_do_not_ask(tmp_path: Path) -> None:
    files = [tmp_path / "light.png", tmp_path / "dark.png"]
    for shade, file in zip((255, 0), files, strict=True):
        Image.new("RGB", (4, 4), (shade, shade, shade)).save(file)
    pairs = [LabelledPair(*files)] * 30 + [LabelledPair(*reversed(files))]
    doubts = _known(pairs, Light(), {"cdpo"}).doubts
    assert doubts is not None and doubts[-1] > 0.8 and doubts[:-1].max() < 0.2
    known = _known(pairs, Light(), {"sft", "rpo"})
    assert known.doubts is None and known.embeddings is not None and known.embeddings[0].shape == (31, 2)
    assert _known(pairs, Light(), {"dpo"}).embeddings is None and _known(pairs, None, {"cdpo"}).doubts is None


def test_of_few_answers_only_the_surely_mistaken_are_left_out() -> None:
    """0.4 is above the 30 % that are reckoned with and no more likely than not."""
    assert is_doubted([0.2, 0.4, 0.6]).tolist() == [False, False, True]
    assert is_doubted([0.2, 0.4, 0.6] * 34)[:3].tolist() == [False, True, True]
