"""What the sidebar is told and saves, with no encoder loaded. No ComfyUI."""

from __future__ import annotations

import importlib.util
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from palate.adapters.comparisons import Comparison, PreferenceStore
from palate.adapters.errors import ComparisonError, NotEnoughAnswersError, StoreError
from palate.adapters.files import load_taste

_spec = importlib.util.spec_from_file_location("node_modules", Path(__file__).with_name("node_modules.py"))
assert _spec is not None and _spec.loader is not None
_modules = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_modules)
sidebar = _modules.node_module("sidebar")


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


def test_who_has_no_answers_or_no_vectors_is_unknown_and_no_error(store: PreferenceStore) -> None:
    store.add(Comparison("bea", "x", "y", "left"))
    for person, answers in (("bea", 1), ("nobody", 0)):
        told = sidebar.Learned().of(store, person)
        assert (told["answers"], told["accuracy"], told["curve"], told["encoder"]) == (answers, None, None, None)
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
