"""Answers of other tools in: every known way of writing them down, and nothing from outside its folder."""

import json

import pytest
from exchange_files import picture, png, read, told
from palate.adapters.errors import FileFormatError
from palate.adapters.exchange import Lost, import_answers, read_source, sources


@pytest.fixture
def folder(tmp_path):
    for number in range(6):
        (tmp_path / f"{number}.png").write_bytes(png(number))
    return tmp_path


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
