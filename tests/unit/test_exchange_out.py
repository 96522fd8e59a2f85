"""Our answers out, in every kind that others read, and back in."""

import pytest
from exchange_files import picture
from palate.adapters.comparisons import Comparison, PreferenceStore, Ranking
from palate.adapters.errors import NotEnoughAnswersError, StoreError
from palate.adapters.exchange import export_answers, import_answers, read_source


@pytest.fixture
def answered(store):
    ids = [store.add_image(picture(n)) for n in range(4)]
    for person, left, right, outcome in (
        ("Mara", 0, 1, "right"),
        ("Mara", 0, 1, "left"),  # asked again: the last answer counts
        ("Mara", 2, 3, "tie"),
        ("Ben", 1, 2, "right"),
        ("Ben", 0, 3, "skip"),
    ):
        store.add(Comparison(person, ids[left], ids[right], outcome, prompt=f"prompt {left}"))
    return store


@pytest.mark.parametrize(("kind", "count"), [("folders", 2), ("jsonl", 3), ("datasets", 3)])
def test_what_goes_out_comes_back_in(answered, tmp_path, kind, count):
    found = export_answers(answered, tmp_path / "out", kind)
    assert (found.answers, found.people) == (count, 2)
    with PreferenceStore(tmp_path / "back") as back:
        imported = import_answers(back, read_source(tmp_path / "out"))
        assert (imported.added, imported.lost) == (count, 0)
        said = {(one.chosen, one.prompt) for name in back.people() for one in back.comparisons(name)}
        outcomes = [one.outcome for name in back.people() for one in back.comparisons(name)]
    first, *_ = answered.comparisons()
    assert (first.left, "prompt 0") in said
    if kind != "folders":
        assert imported.people == {"person 1", "person 2"}
        assert outcomes.count("tie") == 1


@pytest.mark.parametrize("kind", ["jsonl", "datasets"])
def test_how_much_better_comes_back(store, tmp_path, kind):
    ids = [store.add_image(picture(n)) for n in range(5)]
    said = [("left", True), ("right", False), ("left", None), ("tie", None)]
    for place, (outcome, much) in enumerate(said):
        store.add(Comparison("Mara", ids[place], ids[place + 1], outcome, much=much))
    export_answers(store, tmp_path / "out", kind)
    with PreferenceStore(tmp_path / "back") as back:
        import_answers(back, read_source(tmp_path / "out"), "Mara")
        assert [one.much for one in back.comparisons("Mara")] == [much for _, much in said]


def test_of_the_best_of_four_only_what_holds_of_each_pair_is_said(store, tmp_path):
    """Much better than all is much better than each; not much better than the next best says nothing of the worst."""
    for place, much in enumerate((True, False)):
        images = tuple(store.add_image(picture(4 * place + n)) for n in range(4))
        store.add_ranking(Ranking("Mara", images, ((images[0],), images[1:]), much=much))
    export_answers(store, tmp_path / "out")
    with PreferenceStore(tmp_path / "back") as back:
        import_answers(back, read_source(tmp_path / "out"), "Mara")
        assert [one.much for one in back.comparisons("Mara")] == [True] * 3 + [None] * 3


def test_seeds_come_back_with_json_lines(store, tmp_path):
    ids = [store.add_image(picture(n)) for n in range(2)]
    store.add(Comparison("Mara", *ids, "left", left_seed=7, right_seed=8))
    export_answers(store, tmp_path / "out")
    with PreferenceStore(tmp_path / "back") as back:
        import_answers(back, read_source(tmp_path / "out"), "Mara")
        (one,) = back.comparisons("Mara")
    assert (one.left_seed, one.right_seed) == (7, 8)


def test_the_data_set_loads_where_it_is_meant_to(answered, tmp_path):
    datasets = pytest.importorskip("datasets")
    export_answers(answered, tmp_path / "out", "datasets", ["Mara"], named=True)
    loaded = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded[0]["person"] == "Mara"
    assert loaded[0]["chosen"].size == (8, 8)
    assert [row["label"] for row in loaded] == [1.0, 0.5]


def test_a_folder_in_use_is_left_alone_and_nothing_to_say_is_an_error(answered, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(StoreError, match="it is in use"):
        export_answers(answered, tmp_path)
    with pytest.raises(NotEnoughAnswersError, match="Cannot export answers: found none"):
        export_answers(answered, tmp_path / "new", people=["Nobody"])
    assert sorted(one.name for one in tmp_path.iterdir()) == ["mine.txt"]
