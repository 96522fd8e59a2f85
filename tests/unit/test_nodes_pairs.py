"""What the browser is told about pairs. No ComfyUI: the module is loaded beside the package that needs one."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from palate.adapters.comparisons import PreferenceStore


@pytest.fixture
def pairs() -> ModuleType:
    file = Path(__file__).parents[2] / "nodes" / "pairs.py"
    spec = importlib.util.spec_from_file_location("palate.ui.pairs_of_the_nodes", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pairs_that_were_asked_for_are_all_told_and_others_are_limited(pairs: ModuleType, tmp_path: Path) -> None:
    with PreferenceStore(tmp_path) as store:
        offers = [store.offer("ann", "a", f"b{number}").id for number in range(pairs.MOST + 2)]
        store.answer(offers[0], "left")
        told = pairs.state(store, "ann", set(offers))
        assert [pair["offer"] for pair in told["pairs"]] == offers
        assert (told["answers"], told["pairs"][0]["outcome"], told["pairs"][1]["outcome"]) == (1, "left", None)
        assert [pair["offer"] for pair in pairs.state(store, "ann")["pairs"]] == offers[2:]
        assert pairs.state(store, "ann", set())["pairs"] == []
