"""What the browser is told about questions. No ComfyUI: `nodes.pairs` needs none."""

from __future__ import annotations

from pathlib import Path

import node_modules
from palate.adapters.comparisons import PreferenceStore

pairs, waiting = node_modules.node_module("pairs"), node_modules.node_module("waiting")


def test_questions_that_were_asked_for_are_all_told_and_others_come_by_the_page(tmp_path: Path) -> None:
    with PreferenceStore(tmp_path) as store:
        offers = [store.offer("ann", "a", f"b{number}").id for number in range(pairs.MOST + 2)]
        store.answer(offers[0], "left")
        told = pairs.state(store, "ann", offers)
        assert [pair["offer"] for pair in told["pairs"]] == offers
        assert (told["answers"], told["pairs"][0]["outcome"], told["pairs"][1]["outcome"]) == (1, "left", None)
        page = pairs.state(store, "ann")
        assert [pair["offer"] for pair in page["pairs"]] == offers[2:] and page["open"] == pairs.MOST + 1
        assert [pair["offer"] for pair in pairs.state(store, "ann", before=offers[2])["pairs"]] == [offers[1]]
        assert pairs.state(store, "ann", [])["pairs"] == []
        assert pairs.state(store, "bea", offers)["pairs"] == []  # somebody else's


def test_a_batch_is_told_with_its_tiers_and_a_pair_with_its_sides(tmp_path: Path) -> None:
    with PreferenceStore(tmp_path) as store:
        pair, batch = store.offer("ann", "a", "b", prompt="star"), store.offer("ann", "a", "b", others=("c",))
        store.rank(batch.id, [["c"], ["a", "b"]])
        one, many = pairs.state(store, "ann", [pair.id, batch.id])["pairs"]
    assert one == {
        "offer": pair.id,
        "images": ["a", "b"],
        "left": "a",
        "right": "b",
        "prompt": "star",
        "outcome": None,
        "tiers": None,
        "waiting": False,
        "deadline": None,
    }
    assert (many["images"], many["outcome"], many["tiers"]) == (["a", "b", "c"], "ranked", [["c"], ["a", "b"]])
    assert "left" not in many


def test_who_waits_is_told_with_the_deadline(tmp_path: Path) -> None:
    with PreferenceStore(tmp_path) as store:
        awaited, other = store.offer("ann", "a", "b"), store.offer("ann", "a", "c")
        wait = waiting.Wait("7:2", "run", 0, "tab", "ann", (awaited.id,), deadline=123.0)
        told = pairs.state(store, "ann", waits=[wait])
        assert [(pair["waiting"], pair["deadline"]) for pair in told["pairs"]] == [(True, 123.0), (False, None)]
        assert told["waits"][0]["node"] == "7:2" and told["waits"][0]["offers"] == [awaited.id]
        store.answer(awaited.id, "left")
        assert not pairs.state(store, "ann", [awaited.id], [wait])["pairs"][0]["waiting"]
    assert other.id
