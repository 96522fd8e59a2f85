"""Answers over several images: what they imply, kept and taken back as one, in old stores and by two at once."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from palate.adapters.comparisons import RANKING_OUTCOMES, Comparison, PreferenceStore, Ranking, schema
from palate.adapters.errors import ComparisonError

FOUR = ("a", "b", "c", "d")
BEST = (("c",), ("a", "b", "d"))


def offer(store: PreferenceStore, person: str = "mara") -> str:
    return store.offer(person, "a", "b", "a fox", source="panel", others=("c", "d"), seeds=(1, 2, 2**64 - 1, None)).id


def outcomes(ranking: Ranking) -> dict[str, str]:
    return {one.left + one.right: one.outcome for one in ranking.implied()}


@st.composite
def rankings(draw: st.DrawFn) -> dict[str, Any]:
    images = draw(st.lists(st.text("abcdefgh0123", min_size=1), min_size=3, max_size=16, unique=True))
    outcome = draw(st.sampled_from(RANKING_OUTCOMES))
    tiers: dict[int, list[str]] = {}
    for image in images:
        tiers.setdefault(draw(st.integers(0, len(images))), []).append(image)
    seeds = [draw(st.none() | st.integers(-1, 2**64 - 1)) for _ in images]
    return {
        "images": tuple(images),
        "tiers": tuple(tuple(tiers[place]) for place in sorted(tiers)) if outcome == "ranked" else (),
        "outcome": outcome,
        "seeds": draw(st.sampled_from([(), tuple(seeds)])),
        "prompt": draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=40)),
        "seconds": draw(st.none() | st.floats(0, 1e9)),
        "created": draw(st.none() | st.floats(0, 1e11)),
    }


@given(rankings())
@settings(deadline=None, max_examples=40)
def test_round_trip_of_every_field(shared: PreferenceStore, fields: dict[str, Any]) -> None:
    ranking = Ranking("mara", **fields)
    before, count = shared.revision("mara"), shared.count("mara")
    added = shared.add_ranking(ranking)
    assert shared.rankings("mara")[-1] == added
    kept = {name: value for name, value in fields.items() if name != "created"}
    assert {name: getattr(added, name) for name in kept} == kept
    implied = [one for one in shared.comparisons("mara") if one.ranking == added.id]
    assert [(c.left, c.right, c.outcome, c.left_seed) for c in implied] == [
        (c.left, c.right, c.outcome, c.left_seed) for c in ranking.implied()
    ]
    answers = int(ranking.outcome != "skip")
    assert (shared.revision("mara") - before, shared.count("mara") - count) == (answers, answers)


def test_the_best_of_four_implies_three_comparisons_and_an_order_six() -> None:
    assert outcomes(Ranking("mara", FOUR, BEST)) == {"ac": "right", "bc": "right", "cd": "left"}
    order = outcomes(Ranking("mara", FOUR, (("d",), ("b",), ("a",), ("c",))))
    assert order == {"ab": "right", "ac": "left", "ad": "right", "bc": "left", "bd": "right", "cd": "right"}


@pytest.mark.parametrize(("tiers", "outcome", "implied"), [((FOUR,), "ranked", "tie"), ((), "both_bad", "both_bad")])
def test_what_says_the_same_of_all_implies_it_of_every_pair(tiers: Any, outcome: str, implied: str) -> None:
    assert list(outcomes(Ranking("mara", FOUR, tiers, outcome)).values()) == [implied] * 6


def test_images_of_one_tier_have_no_order() -> None:
    assert Ranking("mara", FOUR, (("d", "b"), ("c", "a"))) == Ranking("mara", FOUR, (("b", "d"), ("a", "c")))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"images": ("a", "b")}, "found 2 images; expected 3 to 16"),
        ({"images": tuple("abcdefghijklmnopq")}, "found 17 images"),
        ({"images": ("a", "b", "a")}, "the same image twice"),
        ({"tiers": (("a",), ("b", "c"))}, "every image shown in exactly one tier"),
        ({"tiers": (("a",), ("a", "b", "c", "d"))}, "every image shown in exactly one tier"),
        ({"tiers": ((), FOUR)}, "every image shown in exactly one tier"),
        ({"tiers": ()}, "every image shown in exactly one tier"),
        ({"tiers": 3}, "tiers are 3"),
        ({"tiers": (("a",), (1, "c", "d"))}, "every image shown in exactly one tier"),
        ({"outcome": "skip"}, "expected none with 'skip'"),
        ({"outcome": "left"}, "outcome is 'left'; expected one of ranked, both_bad, skip"),
        ({"seeds": (1, 2)}, "found 2 seeds for 4 images"),
        ({"seeds": (1, 2, 3, "x")}, "a seed is 'x'"),
        ({"seconds": -1.0}, "seconds is -1.0"),
        ({"person": " "}, "person is blank"),
    ],
)
def test_what_makes_no_sense_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ComparisonError, match=message):
        Ranking(**{"person": "mara", "images": FOUR, "tiers": BEST, **fields})


def test_a_ranking_is_one_answer(store: PreferenceStore) -> None:
    pair = store.add(Comparison("mara", "x", "y", "left", created=1.0))
    first = store.add_ranking(Ranking("mara", FOUR, BEST, created=2.0))
    store.add_ranking(Ranking("mara", FOUR, (), "skip", created=3.0))
    assert (store.count("mara"), store.revision("mara")) == (2, 2)
    assert [(one.answers, one.last) for one in store.people_answers()] == [(2, 3.0)]
    assert [one.ranking for one in store.newest("mara", 9)] == [2, 1, None]
    assert [one.ranking for one in store.newest("mara", 9, before=store.newest("mara", 1)[0].id)] == [1, None]
    assert store.rankings("mara")[0] == first and store.rankings("ines") == []
    assert store.comparisons("mara")[0] == pair


def test_a_number_that_is_taken_is_refused(store: PreferenceStore) -> None:
    added = store.add_ranking(Ranking("mara", FOUR, BEST))
    with pytest.raises(ComparisonError, match="number 1 is already recorded"):
        store.add_ranking(added)
    with pytest.raises(ComparisonError, match="belongs to ranking 1"):
        store.add(store.comparisons("mara")[0])


def test_an_offer_of_many_is_ranked_once(store: PreferenceStore) -> None:
    number = offer(store)
    assert store.offers("mara")[0].images == FOUR
    first = store.rank(number, BEST, seconds=1.5)
    assert store.rank(number, (("c",), ("d", "b", "a")), seconds=9.0) == first
    assert (first.seeds, first.prompt, first.source) == ((1, 2, 2**64 - 1, None), "a fox", "panel")
    assert (len(store.comparisons("mara")), store.revision("mara"), store.offers("mara")) == (3, 1, [])
    found = store.find_offer(comparison=store.newest("mara", 1)[0].id)
    assert found is not None and found.id == number


def test_another_ranking_replaces_the_first(store: PreferenceStore) -> None:
    number = offer(store)
    first = store.rank(number, BEST, seconds=1.5)
    second = store.rank(number, [["a"], ["b"], ["c"], ["d"]])
    assert (second.id, second.created, second.seconds) == (first.id, first.created, 1.5)
    assert store.rankings() == [second]
    assert [one.outcome for one in store.comparisons("mara")] == ["left"] * 6
    assert (store.count("mara"), store.revision("mara")) == (1, 2)
    assert store.rank(number, outcome="both_bad").tiers == ()


def test_pairs_are_answered_and_more_are_ranked(store: PreferenceStore) -> None:
    pair = store.offer("mara", "a", "b")
    with pytest.raises(ComparisonError, match=r"2 images were shown; expected three or more"):
        store.rank(pair.id, (("a",), ("b",)))
    with pytest.raises(ComparisonError, match=r"4 images were shown; expected two"):
        store.answer(offer(store), "left")
    with pytest.raises(ComparisonError, match="there is no offer"):
        store.rank("none", BEST)
    with pytest.raises(ComparisonError, match="exactly one tier"):
        store.rank(offer(store), (("a",),))
    for tiers in (5, None, [1, 2]):
        with pytest.raises(ComparisonError, match="exactly one tier"):
            store.rank(offer(store), tiers)
    assert store.comparisons() == []


@pytest.mark.parametrize(
    ("others", "seeds", "message"),
    [(("a",), None, "the same image twice"), (("c",), (1, 2), "2 seeds for 3 images"), ((3,), None, "an image is 3")],
)
def test_an_offer_that_makes_no_sense_is_refused(store: PreferenceStore, others: Any, seeds: Any, message: str) -> None:
    with pytest.raises(ComparisonError, match=message):
        store.offer("mara", "a", "b", others=others, seeds=seeds)


def test_undo_takes_the_whole_ranking_back_and_opens_its_offer(store: PreferenceStore) -> None:
    pair = store.add(Comparison("mara", "x", "y", "left"))
    number = offer(store)
    store.rank(number, BEST)
    undone = store.undo("mara")
    assert undone is not None and (undone.left, undone.right, undone.ranking) == ("a", "c", 1)
    assert (store.comparisons(), store.rankings(), store.revision("mara")) == ([pair], [], 3)
    assert [one.id for one in store.offers("mara")] == [number]
    assert store.rank(number, BEST).id == 2
    assert store.undo("mara") is not None and store.undo("mara") == pair and store.undo("mara") is None


@pytest.mark.parametrize("which", [0, 2])
def test_deleting_one_of_its_comparisons_deletes_the_ranking_and_its_offer(store: PreferenceStore, which: int) -> None:
    number = offer(store)
    store.rank(number, BEST)
    one = store.comparisons()[which]
    assert one.id is not None and store.delete(one.id) == one
    assert (store.comparisons(), store.rankings(), store.find_offer(number)) == ([], [], None)
    assert store.revision("mara") == 2


def test_one_comparison_of_a_ranking_can_not_be_changed(store: PreferenceStore) -> None:
    store.rank(offer(store), BEST)
    with pytest.raises(ComparisonError, match=r"one of several that a ranking implies.*Rank the images again"):
        store.change(store.comparisons()[0].id or 0, "left")


def test_rankings_go_along_when_a_person_is_renamed_and_forgotten(store: PreferenceStore) -> None:
    store.add(Comparison("mara", "x", "y", "skip"))
    store.rank(offer(store), BEST)
    assert store.rename("mara", "Mara") == 2
    assert [one.person for one in store.rankings()] == ["Mara"]
    assert store.forget("Mara") == 2
    assert (store.comparisons(), store.rankings()) == ([], [])


def test_two_stores_on_one_folder_rank_the_same_offer(tmp_path: Path) -> None:
    with PreferenceStore(tmp_path) as one, PreferenceStore(tmp_path) as two:
        number = offer(one)
        first = one.rank(number, BEST)
        assert two.rank(number, BEST) == first
        second = two.rank(number, (("a",), ("b", "c", "d")))
        assert one.rankings("mara") == [second] and one.count("mara") == 1


def test_nothing_of_a_ranking_is_kept_when_it_fails_half_way(
    store: PreferenceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    inserted: list[Comparison] = []

    def failing(connection: sqlite3.Connection, comparison: Comparison) -> Comparison:
        if inserted:
            raise sqlite3.OperationalError("disk I/O error")
        inserted.append(comparison)
        return insert(connection, comparison)

    from palate.adapters.comparisons import rankings as rows

    insert = rows.insert_comparison
    monkeypatch.setattr(rows, "insert_comparison", failing)
    with pytest.raises(Exception, match="disk I/O"):
        store.add_ranking(Ranking("mara", FOUR, BEST))
    assert (store.rankings(), store.comparisons(), store.revision("mara")) == ([], [], 0)


def test_version_2_migrates_and_keeps_everything(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "store.sqlite") as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        for step in schema.MIGRATIONS[:2]:  # released steps are never edited: these are the old store's own
            for statement in step:
                connection.execute(statement)
        pair = ("mara", "a", "b", "a fox", "7", None, "playground", "panel", 1000.0)
        names = "person, left_image, right_image, prompt, left_seed, right_seed, model, source, created"
        connection.execute(f"INSERT INTO comparisons ({names}, outcome, id) VALUES (?,?,?,?,?,?,?,?,?,'tie',5)", pair)
        connection.execute(f"INSERT INTO offers ({names}, id, comparison) VALUES (?,?,?,?,?,?,?,?,?,'one',5)", pair)
        connection.execute(f"INSERT INTO offers ({names}, id) VALUES (?,?,?,?,?,?,?,?,?,'two')", pair)
        connection.execute("INSERT INTO revisions VALUES ('mara', 9)")
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    expected = Comparison("mara", "a", "b", "tie", "a fox", 7, None, "playground", "panel", None, 5, 1000.0)
    for _ in range(2):
        with PreferenceStore(tmp_path) as store:
            assert store.comparisons() == [expected]
            assert (store.revision("mara"), store.count("mara")) == (9, 1)
            assert [(one.id, one.images, one.seeds) for one in store.offers()] == [("two", ("a", "b"), (7, None))]
    with PreferenceStore(tmp_path) as store:
        assert store.answer("one", "tie") == expected
        assert store.rank(offer(store), BEST).id == 1
        assert store.count("mara") == 2


@pytest.mark.parametrize(
    ("table", "ask"),
    [
        ("comparisons", lambda store: store.comparisons("mara", since=1.0)),
        ("comparisons", lambda store: store.count("mara")),
        ("comparisons", lambda store: store.newest("mara", 9, before=5)),
        ("comparisons", lambda store: store.undo("mara")),
        ("comparisons", lambda store: store.people_answers()),
        ("rankings", lambda store: store.rankings("mara")),
        ("offers", lambda store: store.offers("mara")),
        ("revisions", lambda store: store.revision("mara")),
    ],
)
def test_no_question_about_a_person_reads_everybodys_rows(store: PreferenceStore, table: str, ask: Any) -> None:
    asked: list[str] = []
    with store._database.read() as connection:
        connection.set_trace_callback(asked.append)
        ask(store)
        connection.set_trace_callback(None)
        plans = [
            str(row[3])
            for query in asked
            if query.startswith(("SELECT", "WITH"))
            for row in connection.execute(f"EXPLAIN QUERY PLAN {query}")
        ]
    assert any(table in plan for plan in plans)
    for plan in plans:  # `names` is no table: one row for each person, found by the index
        assert "SCAN" not in plan or "USING COVERING INDEX" in plan or plan == "SCAN names", plan
