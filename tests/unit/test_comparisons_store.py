"""The store gives back what it was given, counts what matters, and refuses what makes no sense."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from palate.adapters.comparisons import OUTCOMES, Comparison, PreferenceStore
from palate.adapters.errors import ComparisonError, ShapeError, StoreError

NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=40).filter(str.strip)
PROMPTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
SEEDS = st.none() | st.integers(-1, 2**64 - 1)


@given(
    person=NAMES,
    outcome=st.sampled_from(OUTCOMES),
    prompt=PROMPTS,
    left_seed=SEEDS,
    right_seed=SEEDS,
    model=st.just("") | NAMES,
    source=st.just("") | NAMES,
    seconds=st.none() | st.floats(0, 1e9),
    created=st.none() | st.floats(0, 1e11),
)
@settings(deadline=None, max_examples=40)
def test_round_trip_of_every_field(shared: PreferenceStore, **fields: Any) -> None:
    added = shared.add(Comparison(left="a", right="b", **fields))
    assert added.id is not None and added.created is not None
    assert shared.comparisons(fields["person"])[-1] == added
    expected = {**fields, "created": added.created if fields["created"] is None else fields["created"]}
    assert {name: getattr(added, name) for name in expected} == expected


def test_chosen_and_rejected_follow_the_outcome() -> None:
    left, right, tie = (Comparison("mara", "a", "b", outcome) for outcome in ("left", "right", "tie"))
    assert (left.chosen, left.rejected) == ("a", "b")
    assert (right.chosen, right.rejected) == ("b", "a")
    assert (tie.chosen, tie.rejected) == (None, None)


@pytest.mark.parametrize(
    "person", ["../../etc", "a/b\\c", "'; DROP TABLE comparisons; --", '"', ".", "x" * 4000, "名前"]
)
def test_a_persons_name_is_data(store: PreferenceStore, person: str) -> None:
    added = store.add(Comparison(person, "a", "b", "left"))
    assert store.people() == [person]
    assert store.comparisons(person) == [added]
    assert [path.name for path in store.path.parent.iterdir()] == ["store"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"person": ""}, "person is blank"),
        ({"person": " \t"}, "person is blank"),
        ({"person": "a\x00b"}, "can't be shown"),
        ({"person": "a\nb"}, "can't be shown"),
        ({"person": "\ud800"}, "can't be shown"),
        ({"person": "x" * 4001}, "4001 characters"),
        ({"person": 3}, r"person is 3 \(int\)"),
        ({"right": "a"}, "both sides are image a"),
        ({"outcome": "up"}, "expected one of left, right, tie, both_bad, skip"),
        ({"left_seed": 1.5}, "left_seed is 1.5"),
        ({"right_seed": 2**64}, "right_seed has 65 bits"),
        ({"seconds": 10**400}, "expected a finite number"),
        ({"id": "5"}, "id is '5'"),
        ({"seconds": -1.0}, "seconds is -1.0"),
        ({"seconds": float("nan")}, "seconds is nan"),
        ({"prompt": "\udcff"}, "prompt is"),
        ({"prompt": "x" * 100_001}, "100001 characters"),
    ],
)
def test_what_makes_no_sense_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ComparisonError, match=message):
        Comparison(**{"person": "mara", "left": "a", "right": "b", "outcome": "left", **fields})


def test_revision_rises_with_every_change_and_outlives_deletes(store: PreferenceStore) -> None:
    seen = [store.revision("mara")]
    first = store.add(Comparison("mara", "a", "b", "left"))
    seen.append(store.revision("mara"))
    store.add(Comparison("mara", "a", "b", "tie"))
    seen.append(store.revision("mara"))
    store.undo("mara")
    seen.append(store.revision("mara"))
    assert first.id is not None
    store.delete(first.id)
    seen.append(store.revision("mara"))
    assert seen == [0, 1, 2, 3, 4]
    assert store.revision("somebody else") == 0


def test_offers_and_skips_do_not_raise_the_revision(store: PreferenceStore) -> None:
    offer = store.offer("mara", "a", "b")
    store.add(Comparison("mara", "a", "b", "skip"))
    store.undo("mara")
    store.withdraw(offer.id)
    assert store.revision("mara") == 0


def test_undo_takes_back_the_latest_of_this_person_only(store: PreferenceStore) -> None:
    first = store.add(Comparison("mara", "a", "b", "left"))
    second = store.add(Comparison("mara", "a", "b", "right"))
    other = store.add(Comparison("ines", "a", "b", "right"))
    assert [store.undo("mara"), store.undo("mara"), store.undo("mara")] == [second, first, None]
    assert store.comparisons() == [other]


def test_an_undo_tells_its_own_offer_whatever_was_answered_before(store: PreferenceStore) -> None:
    first, second = (store.offer("mara", "a", name) for name in "bc")
    answers = [store.answer(one.id, "left") for one in (first, second)]
    plain = store.add(Comparison("mara", "a", "d", "left"))
    assert store.undo_offered("mara") == (plain, None)
    assert store.undo_offered("mara") == (answers[1], second)
    assert store.offers("mara") == [second]
    assert store.undo_offered("mara") == (answers[0], first) and store.undo_offered("mara") is None


def test_an_undone_comparison_can_be_added_again_and_ids_are_never_reused(store: PreferenceStore) -> None:
    undone = store.add(Comparison("mara", "a", "b", "left"))
    store.undo("mara")
    later = store.add(Comparison("mara", "a", "b", "right"))
    assert later.id != undone.id
    assert store.add(undone) == undone
    with pytest.raises(ComparisonError, match="already recorded"):
        store.add(undone)


def test_delete_returns_what_it_took(store: PreferenceStore) -> None:
    added = store.add(Comparison("mara", "a", "b", "left"))
    assert added.id is not None
    assert store.delete(added.id) == added
    assert store.delete(added.id) is None
    assert store.comparisons() == [] and store.people() == []


def test_since_gives_the_newer_ones(store: PreferenceStore) -> None:
    for moment in (10.0, 20.0, 30.0):
        store.add(Comparison("mara", "a", "b", "left", created=moment))
    assert [comparison.created for comparison in store.comparisons("mara", since=10.0)] == [20.0, 30.0]


def test_a_hundred_identical_comparisons_are_a_hundred(store: PreferenceStore) -> None:
    for _ in range(100):
        store.add(Comparison("mara", "a", "b", "left"))
    assert len(store.comparisons("mara")) == store.revision("mara") == 100


def test_an_offer_becomes_a_comparison_once(store: PreferenceStore) -> None:
    offer = store.offer("mara", "a", "b", "a fox", 2**64 - 1, 2, "playground", "comfyui")
    assert store.offers("mara") == [offer] and offer.open
    first = store.answer(offer.id, "left", seconds=1.5)
    again = store.answer(offer.id, "left", seconds=9.0)
    assert first == again and first.prompt == "a fox" and first.left_seed == 2**64 - 1 and first.seconds == 1.5
    assert store.offers("mara") == []
    assert store.find_offer(offer.id) == replace(offer, comparison=first.id)
    assert store.revision("mara") == 1


def test_another_answer_replaces_the_first(store: PreferenceStore) -> None:
    offer = store.offer("mara", "a", "b")
    first = store.answer(offer.id, "left", seconds=1.0)
    second = store.answer(offer.id, "right")
    assert second == replace(first, outcome="right")
    assert store.comparisons() == [second]
    assert store.revision("mara") == 2


def test_an_answer_to_what_is_open_replaces_nothing(store: PreferenceStore) -> None:
    pair, batch = (store.offer("mara", "a", "b", others=others) for others in ((), ("c",)))
    assert store.answer_open(pair.id, "left", seconds=2.5, much=True)
    assert not store.answer_open(pair.id, "right") and not store.answer_open("gone", "right")
    assert store.answer_open(batch.id, "ranked", [["c"], ["a", "b"]], 4.0, False)
    assert not store.answer_open(batch.id, "both_bad")
    (one, *_), (ranking,) = store.comparisons("mara"), store.rankings("mara")
    assert (one.outcome, one.seconds, one.much) == ("left", 2.5, True)
    assert (ranking.tiers, ranking.seconds, ranking.much) == ((("c",), ("a", "b")), 4.0, False)
    tied = store.offer("mara", "a", "b")
    with pytest.raises(ComparisonError, match="much is True of the outcome 'tie'"):
        store.answer_open(tied.id, "tie", much=True)
    assert store.find_offer(tied.id).open  # type: ignore[union-attr]


def test_undo_opens_the_offer_again_and_delete_does_not(store: PreferenceStore) -> None:
    offer = store.offer("mara", "a", "b")
    store.answer(offer.id, "left")
    store.undo("mara")
    assert store.offers("mara") == [offer]
    answer = store.answer(offer.id, "tie")
    assert answer.id is not None
    store.delete(answer.id)
    assert store.find_offer(offer.id) is None
    with pytest.raises(ComparisonError, match="there is no offer"):
        store.answer(offer.id, "left")


def test_withdraw_forgets_open_offers_only(store: PreferenceStore) -> None:
    kept, gone = store.offer("mara", "a", "b"), store.offer("mara", "a", "c")
    store.answer(kept.id, "left")
    assert [store.withdraw(kept.id), store.withdraw(gone.id), store.withdraw("nothing")] == [False, True, False]
    assert store.find_offer(kept.id) is not None and store.find_offer(gone.id) is None


def test_an_answer_needs_a_known_outcome(store: PreferenceStore) -> None:
    offer = store.offer("mara", "a", "b")
    with pytest.raises(ComparisonError, match="outcome is 'up'"):
        store.answer(offer.id, "up")
    assert store.offers("mara") == [offer]


def test_vectors_come_back_bit_for_bit_by_encoder(store: PreferenceStore) -> None:
    generator = np.random.default_rng(0)
    vectors = {f"image {n}": generator.normal(size=7).astype(np.float32) for n in range(1200)}
    store.put_vectors("first", vectors)
    store.put_vectors("second", {"image 1": torch.ones(3, dtype=torch.bfloat16)})
    found = store.vectors("first", [*vectors, "missing"])
    assert list(found) == list(vectors)
    assert all(np.array_equal(found[image], vectors[image]) for image in vectors)
    assert store.vectors("second", ["image 1", "image 2"])["image 1"].tolist() == [1.0, 1.0, 1.0]
    assert torch.from_numpy(found["image 0"]).dtype == torch.float32
    assert store.vectors("third", ["image 1"]) == {} and store.vectors("first", []) == {}


def test_a_vector_is_replaced_by_a_newer_one(store: PreferenceStore) -> None:
    store.put_vectors("first", {"a": [1.0, 2.0]})
    store.put_vectors("first", {"a": [3.0, 4.0]})
    assert store.vectors("first", ["a"])["a"].tolist() == [3.0, 4.0]


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        ([1.0, float("nan")], "NaN or infinity"),
        ([1.0, float("inf")], "NaN or infinity"),
        ([1.0, 2.0, 3.0], "its width is 3; encoder first has 2"),
        ([[1.0, 2.0]], r"its shape is \(1, 2\)"),
        ([], r"its shape is \(0,\)"),
    ],
)
def test_bad_vectors_are_refused_and_nothing_of_the_batch_is_kept(
    store: PreferenceStore, vector: Any, message: str
) -> None:
    store.put_vectors("first", {"a": [1.0, 2.0]})
    with pytest.raises(ShapeError, match=message):
        store.put_vectors("first", {"b": [5.0, 6.0], "c": vector})
    assert set(store.vectors("first", ["a", "b", "c"])) == {"a"}


def test_many_threads_write_at_once(store: PreferenceStore) -> None:
    def work(number: int) -> None:
        for _ in range(5):
            store.add(Comparison(f"person {number}", "a", "b", "left"))
            store.put_vectors("first", {f"image {number}": [1.0, float(number)]})

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({comparison.id for comparison in store.comparisons()}) == 40
    assert [store.revision(f"person {number}") for number in range(8)] == [5] * 8


def test_two_stores_on_one_folder_see_each_other(tmp_path: Path) -> None:
    with PreferenceStore(tmp_path) as one, PreferenceStore(tmp_path) as two:
        added = one.add(Comparison("mara", "a", "b", "left"))
        assert two.comparisons("mara") == [added] and two.revision("mara") == 1


def test_names_and_numbers_that_cannot_be_looked_up(store: PreferenceStore) -> None:
    with pytest.raises(ComparisonError, match="Cannot look it up"):
        store.undo("\ud800")
    with pytest.raises(ComparisonError, match="Cannot look it up"):
        store.delete(2**70)


def test_numbers_of_numpy_become_plain_ones(store: PreferenceStore) -> None:
    comparison = Comparison("mara", "a", "b", "left", left_seed=np.int64(7), seconds=np.float32(1.5))  # type: ignore
    assert store.add(comparison).seconds == 1.5
    assert [type(value) for value in (comparison.left_seed, comparison.seconds)] == [int, float]


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = PreferenceStore(tmp_path)
    store.close()
    store.close()
    with pytest.raises(StoreError, match="was closed"):
        store.people()


def test_a_damaged_vector_is_as_good_as_none(store: PreferenceStore) -> None:
    store.put_vectors("e", {image: [1.0, 2.0] for image in "abcd"})
    with store._database.write() as connection:
        for image, blob in (("a", b"\x01\x02\x03"), ("b", bytes(4)), ("c", b"\x00\x00\xc0\x7f" * 2)):  # NaN
            connection.execute("UPDATE vectors SET vector = ? WHERE image = ?", (blob, image))
    assert list(store.vectors("e", list("abcd"))) == ["d"]


def test_a_vector_that_is_text_is_refused(store: PreferenceStore) -> None:
    with pytest.raises(ShapeError, match="expected numbers"):
        store.put_vectors("e", {"a": "north"})


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_a_folder_that_can_not_be_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match="Cannot open the store"):
        PreferenceStore(tmp_path / name)


def test_who_only_reads_leaves_no_store_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="found no store"):
        PreferenceStore.existing(tmp_path)
    assert not list(tmp_path.iterdir())
    PreferenceStore(tmp_path).close()
    with PreferenceStore.existing(tmp_path) as store:
        assert store.people() == []
