"""Answers of other tools in, ours out: every known way of writing them down, and nothing from outside its folder."""

import contextlib
import io
import json
import os
import random
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from palate.adapters.comparisons import Comparison, PreferenceStore
from palate.adapters.errors import (
    EncoderMismatchError,
    FileFormatError,
    NotEnoughAnswersError,
    PreferenceError,
    StoreError,
)
from palate.adapters.exchange import (
    Foreign,
    Lost,
    export_answers,
    import_answers,
    read_aesthetic_gradient,
    read_source,
    sources,
)
from PIL import Image


def picture(number):
    return Image.new("RGB", (8, 8), (number * 40 % 256, number * 90 % 256, 7))


def png(number):
    buffer = io.BytesIO()
    picture(number).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path):
    for number in range(6):
        (tmp_path / f"{number}.png").write_bytes(png(number))
    return tmp_path


@pytest.fixture
def store(tmp_path_factory):
    with PreferenceStore(tmp_path_factory.mktemp("store")) as store:
        yield store


def read(folder, name, *rows):
    text = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)
    (folder / name).write_text(text, encoding="utf-8")
    return list(read_source(folder / name))


def told(one):
    """Chosen and rejected by number, or the outcome."""
    return one.outcome if one.chosen is None else (int(one.chosen.stem), int(one.rejected.stem))


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"chosen": "0.png", "rejected": "1.png"}, (0, 1)),
        ({"winner": "0.png", "loser": "1.png"}, (0, 1)),
        ({"chosen": "0.png", "rejected": "1.png", "label": 0.5}, "tie"),
        ({"chosen": "0.png", "rejected": "1.png", "label": 1.0}, (0, 1)),
        ({"image_0": "0.png", "image_1": "1.png", "prefer_0": "False", "prefer_1": "True"}, (1, 0)),
        ({"image_0": "0.png", "image_1": "1.png", "prefer_0": False, "prefer_1": True}, (1, 0)),
        ({"image_0": "0.png", "image_1": "1.png", "prefer_0": True, "prefer_1": True}, "tie"),
        ({"image_0": "0.png", "image_1": "1.png", "label": 1}, (1, 0)),
        ({"image_0": "0.png", "image_1": "1.png", "label": 0.5}, "tie"),
        ({"jpg_0": "0.png", "jpg_1": "1.png", "label_0": 1.0, "label_1": 0.0, "has_label": True}, (0, 1)),
        ({"jpg_0": "0.png", "jpg_1": "1.png", "label_0": 0.5, "label_1": 0.5}, "tie"),
        ({"left": "0.png", "right": "1.png", "outcome": "right", "chosen": "1.png", "rejected": "0.png"}, (1, 0)),
        ({"image_path": ["0.png", "1.png"], "human_preference": [0, 1]}, (1, 0)),
        ({"image_path": ["0.png", "1.png"], "rank": [1, 2]}, (0, 1)),
    ],
)
def test_every_known_way_of_writing_a_pair_down(folder, row, expected):
    (found,) = read(folder, "rows.jsonl", {**row, "prompt": "a star"})
    assert (told(found), found.prompt) == (expected, "a star")


@pytest.mark.parametrize(
    "row",
    [
        {"image_0": "0.png", "image_1": "1.png", "prefer_0": False, "prefer_1": False},
        {"jpg_0": "0.png", "jpg_1": "1.png", "label_0": 0.5, "label_1": 0.5, "has_label": False},
        {"left": "0.png", "right": "1.png", "outcome": "skip"},
    ],
)
def test_what_nobody_answered_is_no_answer(folder, row):
    assert read(folder, "rows.jsonl", row) == []


def test_a_list_of_ranks_is_tiers(folder):
    row = {"generations": ["0.png", "1.png", "2.png", "3.png"], "ranking": [2, 1, 2, 4], "prompt": "x"}
    (found,) = read(folder, "rows.json", [row])
    assert (found.outcome, found.tiers) == ("ranked", ((1,), (0, 2), (3,)))


def test_single_rows_of_one_prompt_are_put_together(folder):
    rows = [{"prompt_id": "p", "image_path": f"{n}.png", "rank": 3 - n, "prompt": "x"} for n in range(3)]
    (found,) = read(folder, "rows.jsonl", *rows)
    assert (found.tiers, found.prompt) == (((2,), (1,), (0,)), "x")


def test_the_csv_of_image_ranker(folder):
    found = read(folder, "comparisons.csv", "Winner,Loser", "3.png,4.png", "None,5.png")
    assert [told(one) for one in found] == [(3, 4)]


def test_two_folders_with_equal_names_and_prompts_beside_them(tmp_path):
    for side in ("winners", "losers"):
        (tmp_path / side).mkdir()
    for name in ("a", "b"):
        (tmp_path / "winners" / f"{name}.png").write_bytes(png(1))
        (tmp_path / "winners" / f"{name}.txt").write_text(f"prompt {name}\n")
    (tmp_path / "losers" / "a.jpg").write_bytes(png(2))
    first, second = read_source(tmp_path)
    assert (first.chosen.parent.name, first.rejected.name, first.prompt) == ("winners", "a.jpg", "prompt a")
    assert second == Lost("winners/b.png", "losers has no picture of this name")


def test_parquet_with_pictures_inside(tmp_path, store):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [
        {"jpg_0": png(0), "jpg_1": png(n), "label_0": 0.0, "label_1": 1.0, "caption": "c", "user_id": 7} for n in (1, 2)
    ]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "part.parquet")
    found = import_answers(store, read_source(tmp_path))
    assert (found.added, found.people) == (2, {"7"})
    assert [one.outcome for one in store.comparisons("7")] == ["right", "right"]


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "a\0b.png", "link.png", "x" * 5000])
def test_no_name_leads_out_of_the_folder(tmp_path, name):
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "secret.png").write_bytes(png(1))
    (inner / "1.png").write_bytes(png(2))
    (inner / "link.png").symlink_to(tmp_path / "secret.png")
    (found,) = read(inner, "rows.jsonl", {"chosen": name, "rejected": "1.png"})
    assert isinstance(found, Lost)


def test_no_link_in_two_folders_leads_out_of_them(tmp_path):
    for side in ("chosen", "rejected"):
        (tmp_path / "set" / side).mkdir(parents=True)
    (tmp_path / "secret.png").write_bytes(png(1))
    (tmp_path / "secret.txt").write_text("secret")
    for name in ("a", "b"):
        (tmp_path / "set" / "chosen" / f"{name}.png").write_bytes(png(2))
    (tmp_path / "set" / "rejected" / "a.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "set" / "rejected" / "b.png").write_bytes(png(3))
    (tmp_path / "set" / "chosen" / "b.txt").symlink_to(tmp_path / "secret.txt")
    lost, found = read_source(tmp_path / "set")
    assert isinstance(lost, Lost) and "a link leads out of" in lost.why
    assert found.prompt == ""


@pytest.mark.parametrize("label", [2, -1, 10**400, "x"])
def test_a_label_that_names_neither_picture_is_no_answer(folder, label):
    (found,) = read(folder, "rows.jsonl", {"image_0": "0.png", "image_1": "1.png", "label": label})
    assert isinstance(found, Lost) and "label is" in found.why


@pytest.mark.parametrize(("name", "form"), [("a.jsonl", "{}"), ("a.json", "[{}]")])
def test_the_mark_that_windows_writes_before_a_text_is_no_part_of_it(folder, name, form):
    row = json.dumps({"chosen": "0.png", "rejected": "1.png"})
    (folder / name).write_bytes(b"\xef\xbb\xbf" + form.replace("{}", row).encode())
    (found,) = read_source(folder / name)
    assert told(found) == (0, 1)


def test_a_line_of_csv_without_end_is_read_in_parts(folder, monkeypatch):
    monkeypatch.setattr(sources, "MAX_LINE", 1000)
    (folder / "a.csv").write_text("Winner,Loser\n0.png,1.png\n" + "x" * 200_000)
    found = list(read_source(folder / "a.csv"))
    assert told(found[0]) == (0, 1) and all(isinstance(one, Lost) for one in found[1:])


def test_what_may_not_be_read_is_a_named_error(folder, monkeypatch):
    def refused(file):
        raise PermissionError(13, "Permission denied")
        yield

    monkeypatch.setitem(sources._READERS, ".csv", refused)
    (folder / "a.csv").write_text("")
    with pytest.raises(FileFormatError, match="Permission denied"):
        list(read_source(folder / "a.csv"))


def test_what_cannot_be_used_is_named_and_the_rest_comes_in(folder, store):
    rows = [
        "{no json",
        [1],
        {"a": 1},
        {"chosen": "gone.png", "rejected": "1.png"},
        {"chosen": "0.png", "rejected": "1.png"},
    ]
    found = import_answers(store, iter(read(folder, "rows.jsonl", *rows)), "mara")
    assert (found.added, found.lost) == (1, 4)
    assert [one.where for one in found.why[:3]] == [f"rows.jsonl, line {n}" for n in (1, 2, 3)]
    assert "there is no such file" in found.why[3].why


def test_the_same_source_twice_adds_nothing(folder, store):
    rows = [{"chosen": f"{n}.png", "rejected": f"{n + 1}.png"} for n in range(4)]
    rows.append({"image_path": ["0.png", "1.png", "2.png"], "rank": [1, 2, 3]})
    for added, doubled in ((5, 0), (0, 5)):
        found = import_answers(store, iter(read(folder, "rows.jsonl", *rows)), "mara")
        assert (found.added, found.doubled, store.count("mara")) == (added, doubled, 5)


def test_pictures_say_what_they_were_made_from(tmp_path, store):
    from PIL.PngImagePlugin import PngInfo

    for seed, side in ((4, "chosen"), (5, "rejected")):
        (tmp_path / side).mkdir()
        text = PngInfo()
        text.add_text("parameters", f"a red star\nNegative prompt: fog\nSteps: 20, Seed: {seed}, Model: dreams")
        picture(seed).save(tmp_path / side / "0.png", pnginfo=text)
    import_answers(store, read_source(tmp_path), "mara")
    (one,) = store.comparisons("mara")
    assert (one.prompt, one.left_seed, one.right_seed, one.model) == ("a red star", 4, 5, "dreams")


# -- out


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


# -- aesthetic gradients


class Clip:
    identity, name, dim = "e" * 64, "ViT-L-14", 8


@pytest.mark.parametrize("shape", [(8,), (1, 8)])
def test_an_aesthetic_gradient_is_a_taste_for_what_is_near_it(tmp_path, shape):
    torch.save(torch.arange(8.0).reshape(shape), tmp_path / "fantasy.pt")
    taste = read_aesthetic_gradient(tmp_path / "fantasy.pt", Clip, 8)
    direction = torch.arange(8.0) / torch.arange(8.0).norm()
    assert taste.person == "fantasy"
    assert taste.utility(direction[None]) > taste.utility(-direction[None])


class Evil:
    def __reduce__(self):
        return print, ("code ran",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (Evil(), "would run code"),
        ([1, 2], "it holds list"),
        (torch.zeros(8), "nothing but 0"),
        (torch.full((8,), float("nan")), "NaN"),
        (torch.ones(3, 8), r"numbers of shape \(3, 8\)"),
        (torch.ones(8, dtype=torch.long), "it holds Tensor"),
        (torch.ones(1).expand(1, 10**10), "claims 10,000,000,000 numbers"),  # 1.3 KB, and 40 GB to use
        (torch.empty(8, device="meta"), "claims 8 numbers"),
    ],
)
def test_what_is_no_gradient_is_refused_and_never_run(tmp_path, capsys, content, message):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(FileFormatError, match=message):
        read_aesthetic_gradient(tmp_path / "x.pt", Clip, 8)
    assert "code ran" not in capsys.readouterr().out


def test_another_width_names_the_encoder_that_would_fit(tmp_path):
    torch.save(torch.ones(5), tmp_path / "x.pt")
    with pytest.raises(EncoderMismatchError, match=r"has 5 numbers, ViT-L-14 has 8; .*open_clip:ViT-L-14/openai"):
        read_aesthetic_gradient(tmp_path / "x.pt", Clip, 8)


# -- hostile


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(
                    ["chosen", "rejected", "image_path", "rank", "label", "jpg_0", "jpg_1", "outcome", "prompt_id"]
                ),
                inner,
            )
        ),
    )
)
@settings(max_examples=60, deadline=None)
def test_no_json_at_all_ends_otherwise_than_in_answers_and_named_losses(tmp_path_factory, row):
    folder = tmp_path_factory.mktemp("x")
    assert all(isinstance(one, (Foreign, Lost)) for one in read(folder, "rows.jsonl", row))
    assert all(isinstance(one, (Foreign, Lost)) for one in read(folder, "rows.json", row))


def test_a_damaged_file_of_any_kind_is_lost_rows_or_a_named_error(tmp_path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pyarrow.Table.from_pylist([{"chosen": png(1), "rejected": png(2)}])
    parquet.write_table(table, tmp_path / "a.parquet")
    whole, rng = (tmp_path / "a.parquet").read_bytes(), random.Random(0)
    for number in range(160):
        data = bytearray(whole[: rng.randrange(len(whole))] if rng.random() < 0.5 else whole)
        for _ in range(rng.randrange(1, 20)):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        file = tmp_path / f"b.{('parquet', 'json', 'jsonl', 'csv')[number % 4]}"
        file.write_bytes(bytes(data))
        with contextlib.suppress(PreferenceError):
            assert all(isinstance(one, (Foreign, Lost)) for one in read_source(file))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
def test_a_pipe_among_the_pictures_holds_nothing_up(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "b.png")
    (tmp_path / "rows.jsonl").write_text('{"chosen": "a.png", "rejected": "b.png"}')
    found = []

    def bring():
        with PreferenceStore(tmp_path / "store") as store:
            found.append(import_answers(store, read_source(tmp_path / "rows.jsonl")))

    thread = threading.Thread(target=bring, daemon=True)
    thread.start()
    thread.join(20)
    assert found and (found[0].added, found[0].lost) == (0, 1)
    assert "it is no file" in found[0].why[0].why
