"""What the sidebar is told and saves, with no encoder loaded. No ComfyUI."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import node_modules
import numpy as np
import pytest
import torch
from palate.adapters.comparisons import Comparison, PreferenceStore
from palate.adapters.errors import ComparisonError, NotEnoughAnswersError, StoreError
from palate.adapters.files import load_taste
from palate.adapters.playground import playground_words
from palate.adapters.taste import FIRST_SLIPS, VOCABULARY, Suspect, keep_words, kept_words, look_again
from palate.adapters.taste.ceiling import SECOND_LOOK

sidebar = node_modules.node_module("sidebar")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[PreferenceStore]:
    """ "ann" prefers what points along the first axis; of her last pair nobody has made vectors."""
    draw = np.random.default_rng(0)
    with PreferenceStore(tmp_path / "store") as one:
        for number in range(30):
            better, worse = (draw.normal(size=4) + np.array([sign, 0, 0, 0]) for sign in (1, -1))
            one.put_vectors("enc", {f"b{number}": better, f"w{number}": worse})
            one.add(Comparison("ann", f"b{number}", f"w{number}", "left"))
        one.add(Comparison("ann", "new", "newer", "left"))
        yield one


def settled(learned: Any, store: PreferenceStore) -> dict[str, Any]:
    """What is told once it is computed."""
    while not (told := learned.of(store, "ann"))["fresh"]:
        time.sleep(0.01)
    return told


def test_what_was_learned_comes_from_vectors_that_are_there(store: PreferenceStore) -> None:
    told = settled(sidebar.Learned(), store)
    assert (told["answers"], told["counted"], told["waiting"], told["fresh"]) == (31, 30, 0, True)
    assert 0.5 < told["low"] < told["accuracy"] <= told["high"] <= 1
    assert [image[0] for image in told["strip"]] == ["w"] * 3 + ["b"] * 3  # from what she likes least
    assert told["curve"] and isinstance(told["advice"], str) and told["encoder"].startswith("encoder enc")
    json.dumps(told, allow_nan=False)


def test_it_is_computed_once_for_the_same_answers(store: PreferenceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    learned, computed, report = sidebar.Learned(), [], sidebar.learned_report
    monkeypatch.setattr(sidebar, "learned_report", lambda *args: computed.append(1) or report(*args))
    for _ in range(3):
        settled(learned, store)
    assert len(computed) == 1
    store.undo("ann")
    store.offer("ann", "b1", "b2")
    now = sidebar.time.monotonic()
    monkeypatch.setattr(sidebar.time, "monotonic", lambda: now + 3600)
    told = settled(learned, store)
    assert len(computed) == 2 and (told["answers"], told["waiting"]) == (30, 1)


def test_nobody_waits_for_a_long_computation(store: PreferenceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    learned, report, go = sidebar.Learned(), sidebar.learned_report, threading.Event()
    monkeypatch.setattr(sidebar, "learned_report", lambda *args: go.wait(60) and report(*args))
    monkeypatch.setattr(sidebar, "PATIENCE", 0.01)
    told = learned.of(store, "ann")
    assert (told["answers"], told["accuracy"], told["fresh"]) == (31, None, False)
    go.set()
    before = settled(learned, store)
    store.undo("ann")  # too soon after a computation: counts are new, the rest is old
    learned._known["ann"] = sidebar.replace(learned._known["ann"], again=float("inf"))
    told = learned.of(store, "ann")
    assert (told["answers"], told["counted"], told["fresh"]) == (30, 30, False)
    assert told["accuracy"] == before["accuracy"]


def test_what_goes_wrong_is_said_to_who_asked(store: PreferenceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise StoreError("the disk is gone")

    monkeypatch.setattr(sidebar, "learned_report", broken)
    with pytest.raises(StoreError, match="the disk is gone"):
        sidebar.Learned().of(store, "ann")


def test_what_failed_rests_before_it_is_tried_again(store: PreferenceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    monkeypatch.setattr(sidebar, "learned_report", lambda *_: tried.append(1) or 1 / 0)
    learned = sidebar.Learned()
    for _ in range(3):  # and whoever asks meanwhile is told why
        with pytest.raises(ZeroDivisionError):
            learned.of(store, "ann")
    assert len(tried) == 1
    now = time.monotonic()
    monkeypatch.setattr(sidebar.time, "monotonic", lambda: now + 60)
    with pytest.raises(ZeroDivisionError):
        learned.of(store, "ann")
    assert len(tried) == 2


def test_who_has_no_answers_or_no_vectors_is_unknown_and_no_error(store: PreferenceStore) -> None:
    store.add(Comparison("bea", "x", "y", "left"))
    for person, answers in (("bea", 1), ("nobody", 0)):
        told = sidebar.Learned().of(store, person)
        assert (told["answers"], told["accuracy"], told["curve"], told["encoder"]) == (answers, None, None, None)
        assert told["strip"] is None
    store.offer("ann", "x", "y", source="comfyui")
    store.offer("carl", "x", "y", source="comfyui")
    known = [(one["person"], one["answers"], one["waiting"]) for one in sidebar.people(store)["people"]]
    assert known == [("bea", 1, 0), ("ann", 31, 1), ("carl", 0, 1)]


def test_a_taste_and_answers_are_saved_under_names_that_leave_no_folder(store: PreferenceStore, tmp_path: Path) -> None:
    assert sidebar.export(store, "ann", "taste", tmp_path) == {"file": "ann.safetensors", "subfolder": "palate"}
    taste = load_taste(tmp_path / "palate" / "ann.safetensors")
    assert taste.answers == 30 and taste.weights[0] > 0 and taste.encoder == "enc"
    name = sidebar.export(store, "ann", "answers", tmp_path)["file"]
    lines = [json.loads(line) for line in (tmp_path / "palate" / name).read_text().splitlines()]
    assert len(lines) == 31 and (lines[0]["chosen"], lines[0]["outcome"]) == ("b0", "left")
    store.add(Comparison("../../ann", "b1", "w1", "left"))
    saved = sidebar.export(store, "../../ann", "answers", tmp_path)["file"]
    assert (tmp_path / "palate" / saved).is_file() and "/" not in saved
    assert sorted(path.name for path in tmp_path.iterdir()) == ["palate", "store"]


def test_what_can_not_be_saved_is_said(store: PreferenceStore, tmp_path: Path) -> None:
    store.add(Comparison("bea", "x", "y", "left"))
    for person, kind, error, said in (
        ("ann", "pickle", ComparisonError, "expected 'taste' or 'answers'"),
        ("bea", "taste", NotEnoughAnswersError, "run of Fit Taste"),
        ("nobody", "answers", NotEnoughAnswersError, "Answer first"),
    ):
        with pytest.raises(error, match=said):
            sidebar.export(store, person, kind, tmp_path)
    assert not (tmp_path / "palate").exists()


class Speaker:
    """An encoder whose text side knows the playground's words: "night" points along the first axis."""

    identity, name, dim, has_text = "enc", "playground", 4, True

    def encode_texts(self, texts: list[str], batch_size: int = 64) -> torch.Tensor:
        draw = torch.Generator().manual_seed(0)
        found = torch.randn(len(texts), 4, generator=draw)
        found[:, 0] = torch.tensor([9.0 * ("night" in text) for text in texts])
        return torch.nn.functional.normalize(found, dim=1)


def test_a_taste_is_said_in_words_once_a_run_kept_their_vectors(store: PreferenceStore) -> None:
    learned, words = sidebar.Learned(), playground_words()
    assert settled(learned, store)["likes"] is None
    images = store.count_vectors("enc")
    assert keep_words(store, Speaker(), words) == len(words) and keep_words(store, Speaker(), words) == 0
    assert store.count_vectors("enc") == images  # they aren't pictures
    now = sidebar.time.monotonic()
    learned._known["ann"] = sidebar.replace(learned._known["ann"], again=now)
    told = settled(learned, store)
    liked = [one["word"] for one in told["likes"]]
    assert liked[0].startswith("night") and told["likes"][0]["sure"] and told["likes"][0]["much"] == 1.0
    assert all(0 < one["much"] <= 1 for side in ("likes", "dislikes") for one in told[side])
    assert not {one["word"] for one in told["dislikes"]} & set(liked)
    json.dumps(told, allow_nan=False)


def test_an_encoder_without_a_text_side_keeps_no_words(store: PreferenceStore) -> None:
    mute = Speaker()
    mute.has_text = False
    assert keep_words(store, mute, playground_words()) == 0
    assert kept_words(store, "enc", (playground_words(), VOCABULARY)) is None


def test_answers_that_look_like_slips_are_told_and_settled_by_a_second_look(
    store: PreferenceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PreferenceStore, "has_image", lambda self, image: True)  # they have vectors only
    store.change(14, "right")  # against all the others
    learned = sidebar.Learned()
    told = settled(learned, store)
    (slip,) = learned.slips(store, "ann")
    assert (told["slips"], slip.id, slip.outcome) == (1, 14, "right")
    with pytest.raises(ComparisonError, match="changed or deleted since"):
        look_again(store, "bea", 14, "right", "left")
    with pytest.raises(ComparisonError, match="answer 14 again"):  # a click that is of another store's
        look_again(store, "ann", 14, "right", "left", left="e" * 64)
    assert [one.outcome for one in store.newest("ann", 1, 15)] == ["right"]
    left = store.newest("ann", 1, 15)[0].left
    look_again(store, "ann", 14, "right", "left", left=left)
    assert learned.slips(store, "ann") == [] and learned.of(store, "ann")["slips"] == 0
    assert next(one for one in store.comparisons("ann") if one.id == 14).outcome == "left"
    assert store.count("ann") == 31


def test_a_slip_that_is_kept_is_one_more_answer_and_few_answers_have_none(
    store: PreferenceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PreferenceStore, "has_image", lambda self, image: True)  # they have vectors only
    store.change(3, "right")
    learned = sidebar.Learned()
    settled(learned, store)
    look_again(store, "ann", 3, "right", "right")
    look_again(store, "ann", 3, "right", "right")  # a second click
    newest = store.newest("ann", 1)[0]
    assert (newest.left, newest.right, newest.outcome, newest.source) == ("b2", "w2", "right", SECOND_LOOK)
    assert store.count("ann") == 32 and learned.slips(store, "ann") == []
    store.change(5, "right")
    learned._suspects["ann"] = (Suspect(store.newest("ann", 1, 6)[0], 0.9),)
    assert [one.id for one in learned.slips(store, "ann")] == [5]
    for _ in range(3):
        store.undo("ann")
    assert store.count("ann") == FIRST_SLIPS - 1 and learned.slips(store, "ann") == []
