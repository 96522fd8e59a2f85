"""Who answered: counted, listed, renamed, forgotten; answers changed and paged."""

import pytest
from palate.adapters.comparisons import Comparison, PreferenceStore, Ranking
from palate.adapters.errors import ComparisonError


@pytest.fixture
def store(tmp_path):
    with PreferenceStore(tmp_path / "store") as store:
        for number, (person, outcome) in enumerate([("ann", "left"), ("ann", "skip"), ("bo", "tie"), ("ann", "right")]):
            store.add(Comparison(person, f"l{number}", f"r{number}", outcome, created=float(number)))
        yield store


def test_skipped_pairs_are_not_counted(store):
    assert (store.count("ann"), store.count("bo"), store.count("nobody")) == (2, 1, 0)


def test_people_come_with_their_answers_who_was_here_last_first(store):
    assert [(one.person, one.answers, one.last) for one in store.people_answers()] == [("ann", 2, 3.0), ("bo", 1, 2.0)]


def test_who_answered_since_is_counted_again(store):
    """After every way to change what there is, the store says what one that was just opened says."""
    last = store.comparisons("bo")[-1].id
    changes = [
        lambda: store.add(Comparison("bo", "x", "y", "skip", created=9.0)),
        lambda: store.undo("bo"),
        lambda: store.change(last, "skip"),
        lambda: store.change(last, "left"),
        lambda: store.add_ranking(Ranking("ann", ("a", "b", "c"), (("c",), ("a",), ("b",)))),
        lambda: store.rename("ann", "Anna"),
        lambda: store.delete(store.comparisons("Anna")[1].id),
        lambda: store.delete(store.comparisons("Anna")[0].id),
        lambda: store.forget("bo"),
        lambda: store.add(Comparison("bo", "x", "y", "left")),
    ]
    store.people_answers()
    for change in changes:
        change()
        with PreferenceStore(store.path) as fresh:
            assert store.people_answers() == fresh.people_answers()


def test_answers_come_in_pages_newest_first(store):
    first = store.newest("ann", 2)
    assert [one.left for one in first] == ["l3", "l1"]
    assert [one.left for one in store.newest("ann", 2, before=first[-1].id)] == ["l0"]


def test_a_change_keeps_all_but_the_outcome_and_raises_the_revision(store):
    before, revision = store.comparisons("bo")[0], store.revision("bo")
    after = store.change(before.id, "left")
    assert (after.outcome, after.left, after.created) == ("left", before.left, before.created)
    assert store.comparisons("bo") == [after]
    assert store.revision("bo") == revision + 1
    assert store.change(before.id, "left") == after
    assert store.revision("bo") == revision + 1


def test_what_is_not_there_cannot_be_changed(store):
    with pytest.raises(ComparisonError, match="there is no number 99"):
        store.change(99, "left")
    with pytest.raises(ComparisonError, match="expected one of left"):
        store.change(1, "maybe")


def test_a_new_name_takes_answers_and_undecided_pairs_along(store):
    offer = store.offer("ann", "a", "b")
    revision = store.revision("ann")
    assert store.rename("ann", "Anna") == 3
    assert store.people() == ["Anna", "bo"]
    assert store.find_offer(offer.id).person == "Anna"
    assert store.revision("ann") > revision
    assert store.revision("Anna") > revision


def test_the_same_name_again_changes_nothing(store):
    offer = store.offer("ann", "a", "b")
    assert store.rename("ann", "ann") == 3
    assert store.find_offer(offer.id).person == "ann"


@pytest.mark.parametrize(
    ("name", "match"), [("bo", "has answers of their own"), (" ", "person is"), ("a\nb", "person is")]
)
def test_a_name_that_is_taken_or_none_is_refused(store, name, match):
    with pytest.raises(ComparisonError, match=match):
        store.rename("ann", name)
    assert store.people() == ["ann", "bo"]


def test_a_forgotten_person_leaves_nothing_but_a_higher_revision(store):
    store.offer("ann", "a", "b")
    revision = store.revision("ann")
    assert store.forget("ann") == 3
    assert (store.people(), store.offers("ann")) == (["bo"], [])
    assert store.revision("ann") > revision
    assert store.forget("nobody") == 0


def test_offers_are_found_by_their_source_and_its_parts(store):
    for source in ("panel", "panel:random", "panels", "comfyui", "pan_l"):
        store.offer("cy", "a", "b", source=source)
    assert [one.source for one in store.offers("cy", source="panel")] == ["panel", "panel:random"]


def test_the_offer_of_an_answer_is_found(store):
    offer = store.offer("cy", "a", "b")
    answer = store.answer(offer.id, "left")
    assert store.find_offer(comparison=answer.id).id == offer.id
    assert store.find_offer("none") is None


def test_pairs_that_another_tab_shows_under_the_new_name_can_still_be_answered(store: PreferenceStore) -> None:
    own, other = store.offer("ann", "x", "y"), store.offer("Anna", "x", "z")
    store.rename("ann", "Anna")
    assert [store.answer(one.id, "left").person for one in (own, other)] == ["Anna", "Anna"]
