"""What was asked and what was said to it, a page at a time."""

from __future__ import annotations

import numpy as np
from palate.adapters.comparisons import Comparison, PreferenceStore, Ranking


def test_pages_go_from_the_newest_back_and_hold_every_open_question_once(store: PreferenceStore) -> None:
    made = [store.offer("ann", "a", f"b{number}", source="comfyui").id for number in range(7)]
    store.offer("bea", "a", "b")
    store.offer("ann", "a", "panel", source="panel:random")  # the panel shows its own
    store.answer(made[3], "left")
    pages, before = [], None
    while page := [offer.id for offer in store.asked.newest("ann", 4, before)]:
        pages.append(page)
        before = page[-1]
    assert pages == [[made[6], made[5], made[4], made[2]], [made[1], made[0]]]
    assert store.asked.waiting() == {"ann": 6, "bea": 1}
    assert store.asked.count("ann") == 6 and store.asked.newest("ann", 4, "no such offer") == []


def test_questions_come_with_what_was_said(store: PreferenceStore) -> None:
    pair, batch, undecided = (store.offer("ann", "a", "b", others=others).id for others in ((), ("c", "d"), ()))
    store.answer(pair, "right")
    store.rank(batch, [["c"], ["a", "b", "d"]])
    answers = dict((offer.id, answer) for offer, answer in store.asked.answers([undecided, batch, "gone", pair]))
    assert list(answers) == [undecided, batch, pair]
    assert answers[undecided] is None
    assert isinstance(answers[pair], Comparison) and answers[pair].outcome == "right"
    assert isinstance(answers[batch], Ranking) and answers[batch].tiers == (("c",), ("a", "b", "d"))


def test_the_same_question_is_found_by_person_pictures_prompt_and_source(store: PreferenceStore) -> None:
    store.offer("ann", "a", "b", prompt="star", source="comfyui")
    latest = store.offer("ann", "a", "b", prompt="star", source="comfyui:wait")
    batch = store.offer("ann", "a", "b", prompt="star", source="comfyui", others=("c",))
    assert store.asked.same("ann", ["a", "b"], "star", "comfyui") == latest
    assert store.asked.same("ann", ["a", "b", "c"], "star", "comfyui") == batch
    for person, images, prompt, source in (
        ("bea", ["a", "b"], "star", "comfyui"),
        ("ann", ["b", "a"], "star", "comfyui"),
        ("ann", ["a", "b"], "ring", "comfyui"),
        ("ann", ["a", "b"], "star", "comfy"),
    ):
        assert store.asked.same(person, images, prompt, source) is None


def test_the_encoder_that_knows_most_of_a_persons_pictures_comes_first(store: PreferenceStore) -> None:
    store.add(Comparison("ann", "a", "b", "left"))
    store.add(Comparison("ann", "b", "c", "left"))
    store.put_vectors("one", {"a": np.ones(2)})
    store.put_vectors("two", {name: np.ones(3) for name in "bcx"})
    known = [(encoder.identity, encoder.width, encoder.images) for encoder in store.encoders("ann")]
    assert known == [("two", 3, 2), ("one", 2, 1)]
    assert store.encoders("bea") == []
