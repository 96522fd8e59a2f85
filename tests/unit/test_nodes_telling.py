"""What the sidebar asks next: the newest question, then what teaches most; and questions of its own. No ComfyUI."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import node_modules
import numpy as np
import pytest
from palate.adapters.comparisons import Comparison, PreferenceStore
from palate.adapters.errors import ComparisonError
from palate.adapters.taste import choose_pair

sidebar, telling = node_modules.node_module("sidebar"), node_modules.node_module("telling")
AXES = {f"{sign}{axis}": (1 if sign == "+" else -1) * np.eye(3)[axis] for sign in "+-" for axis in range(3)}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[PreferenceStore]:
    """ "ann" was asked ten times along the first axis and once along the second; never along the third."""
    with PreferenceStore(tmp_path / "store") as one:
        one.put_vectors("enc", {**AXES, "middle": np.zeros(3)})
        for _ in range(10):
            one.add(Comparison("ann", "+0", "-0", "left", prompt="a fox"))
        one.add(Comparison("ann", "+1", "-1", "left", prompt="a fox"))
        yield one


def taste(store: PreferenceStore) -> Any:
    found = sidebar.Learned().taste(store, "ann")
    assert found.answers == 11
    return found


def ask(store: PreferenceStore, *pairs: tuple[str, str], prompt: str = "a fox") -> dict[str, tuple[str, str]]:
    return {store.offer("ann", *pair, prompt=prompt, source="comfyui").id: pair for pair in pairs}


def asked(store: PreferenceStore, learned: Any, offers: dict[str, tuple[str, str]]) -> list[tuple[str, str]]:
    newest = store.asked.newest("ann", 50)
    return [offers[one] for one in telling.order(store, "ann", learned, newest)]


def test_first_the_newest_and_then_what_teaches_most(store: PreferenceStore) -> None:
    offers = ask(store, ("+0", "-0"), ("+2", "-2"), ("+1", "-1"), ("+0", "middle"))
    order = asked(store, taste(store), offers)
    assert order == [("+0", "middle"), ("+2", "-2"), ("+1", "-1"), ("+0", "-0")]
    newest = next(one for one, pair in offers.items() if pair == order[0])
    store.answer(newest, "left")
    assert asked(store, taste_after(store), offers)[0] == ("+2", "-2")  # none is newer than one that was decided


def taste_after(store: PreferenceStore) -> Any:
    return sidebar.Learned().taste(store, "ann")


def test_nothing_learned_or_never_encoded_is_asked_newest_first(store: PreferenceStore) -> None:
    offers = ask(store, ("x", "y"), ("+2", "-2"), ("z", "+0"), ("x", "z"))
    assert asked(store, None, offers) == [("x", "z"), ("z", "+0"), ("+2", "-2"), ("x", "y")]
    assert asked(store, taste(store), offers) == [("x", "z"), ("+2", "-2"), ("z", "+0"), ("x", "y")]
    assert telling.order(store, "ann", taste(store), []) == []


def test_a_batch_is_ranked_by_what_its_pairs_teach(store: PreferenceStore) -> None:
    batch = store.offer("ann", "+2", "-2", prompt="a fox", source="comfyui", others=("middle",)).id
    plain, newest = ask(store, ("+0", "-0"), ("+1", "-1"))
    assert telling.order(store, "ann", taste(store), store.asked.newest("ann", 9)) == [newest, batch, plain]


def test_its_own_questions_are_the_choice_of_the_panel_within_one_prompt(store: PreferenceStore) -> None:
    """ "+2" and "-2" were compared with others only; what was made for another prompt never meets them."""
    for one in ("+2", "-2"):
        store.add(Comparison("ann", one, "middle", "tie", prompt="a fox"))
        store.add(Comparison("ann", one, "+0", "tie", prompt="a fox"))
    store.add(Comparison("ann", "far", "further", "left", prompt="a dog"))
    store.put_vectors("enc", {"far": 9 * AXES["+2"], "further": -9 * AXES["+2"]})
    learned = sidebar.Learned().taste(store, "ann")
    names = sorted({*AXES, "middle"})
    pairs = {frozenset((one.left, one.right)) for one in store.comparisons("ann")}
    barred = {(i, j) for i, j in combinations(range(7), 2) if {names[i], names[j]} in pairs}
    i, j = choose_pair(learned, np.stack([{**AXES, "middle": np.zeros(3)}[name] for name in names]), exclude=barred)
    offer = telling.another(store, "ann", learned)
    assert {offer.left, offer.right} == {names[i], names[j]}
    assert (offer.prompt, offer.source) == ("a fox", telling.SOURCE)


def test_the_newest_picture_comes_before_what_tells_most(store: PreferenceStore) -> None:
    store.put_vectors("enc", {"new": 0.9 * AXES["+1"]})
    store.add(Comparison("ann", "+0", "new", "left", prompt="a fox", source="comfyui"))
    learned = sidebar.Learned().taste(store, "ann")
    offer = telling.another(store, "ann", learned)
    assert "new" in offer.images and "+0" not in offer.images
    store.answer(offer.id, "left")
    assert "new" not in telling.another(store, "ann", learned).images  # it was in two by now


def test_no_two_are_asked_twice_and_the_end_is_said(store: PreferenceStore) -> None:
    learned, seen = taste(store), set()
    for _ in range(4 * 3 // 2 - 2):
        offer = telling.another(store, "ann", learned)
        assert telling.another(store, "ann", learned) == offer  # a second tab's, until one of them answers
        seen.add(frozenset(offer.images))
        store.answer(offer.id, "left")
    assert len(seen) == 4 and not seen & {frozenset(("+0", "-0")), frozenset(("+1", "-1"))}
    with pytest.raises(ComparisonError, match="Cannot ask more"):
        telling.another(store, "ann", learned)
    with pytest.raises(ComparisonError, match="prompt connected"):
        telling.another(store, "nobody", None)


def test_before_anything_was_learned_any_two_of_the_latest_prompt_are_asked(store: PreferenceStore) -> None:
    for prompt in ("a dog", "a cat"):
        store.add(Comparison("bea", f"{prompt} 1", f"{prompt} 2", "left", prompt=prompt))
        store.add(Comparison("bea", f"{prompt} 2", f"{prompt} 3", "left", prompt=prompt))
    assert set(telling.another(store, "bea", None).images) == {"a cat 1", "a cat 3"}
