"""What is trained on, beside the store: folders, tables, liked pictures alone; and what can't be trained on."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from palate.adapters.comparisons import Comparison, PreferenceStore
from palate.adapters.errors import CancelledError, FileFormatError, FineTuneError, ImageError, NotEnoughAnswersError
from palate.adapters.finetune.inputs import _Files, read_pairs
from palate.adapters.finetune.liked import against_samples
from palate.adapters.finetune.pairs import pairs_of, turned_over
from PIL import Image


def png(shade: int) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, 0, 0)).save(data, "PNG")
    return data.getvalue()


def test_folders_of_equal_names_with_captions_beside(tmp_path: Path) -> None:
    for side, shade in (("winners", 10), ("losers", 90)):
        (tmp_path / side).mkdir()
        for name in ("one", "two"):
            (tmp_path / side / f"{name}.png").write_bytes(png(shade))
    (tmp_path / "winners" / "one.txt").write_text("a red star\n")
    (tmp_path / "winners" / "alone.png").write_bytes(png(5))
    found = read_pairs(tmp_path, tmp_path / "run", prompt="a hill")
    said = [(pair.chosen.parent.name, pair.rejected.parent.name, pair.prompt) for pair in found.pairs]
    assert said == [("winners", "losers", "a red star"), ("winners", "losers", "a hill")]
    assert found.left_out == 1 and "alone" in found.why


def test_json_lines_in_both_ways_and_the_last_answer_on_a_pair_counts(tmp_path: Path) -> None:
    for k in range(4):
        (tmp_path / f"{k}.png").write_bytes(png(k))
    rows = [
        {"chosen": "0.png", "rejected": "1.png", "prompt": "a star"},
        {"image_0": "2.png", "image_1": "3.png", "label": 1, "prompt": "a hill"},
        {"image_0": "2.png", "image_1": "0.png", "label": 0.5, "prompt": "a hill"},
        {"chosen": "1.png", "rejected": "0.png", "prompt": "a star"},
        {"chosen": "1.png", "rejected": "gone.png", "prompt": "a star"},
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    found = read_pairs(tmp_path / "pairs.jsonl", tmp_path / "run")
    said = [(pair.chosen.stem, pair.rejected.stem, pair.prompt) for pair in found.pairs]
    assert said == [("3", "2", "a hill"), ("1", "0", "a star")]
    assert found.left_out == 2 and "ties" in found.why


def test_pick_a_pics_parquet_is_streamed_and_its_pictures_are_kept_once(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [
        {"jpg_0": png(k % 2), "jpg_1": png(9), "label_0": label, "label_1": 1 - label, "caption": "a star"}
        for k, label in enumerate((1.0, 0.5, 0.0, 1.0))
    ]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "part.parquet")
    seen: list[int] = []
    found = read_pairs(tmp_path / "part.parquet", tmp_path / "run", on_pair=seen.append)
    # The third row turns the first one's answer over.
    assert [pair.chosen.read_bytes() for pair in found.pairs] == [png(9), png(1)]
    assert found.left_out == 1 and seen == [1, 1, 1, 2]
    assert len(list((tmp_path / "run" / "pictures").iterdir())) == 3
    assert len(read_pairs(tmp_path / "part.parquet", tmp_path / "run", limit=1).pairs) == 1


def test_a_broken_picture_costs_its_pair_and_not_the_training(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    whole = [
        {"jpg_0": png(9 * k), "jpg_1": png(9 * k + 1), "label_0": 1.0, "label_1": 0.0, "caption": "a star"}
        for k in range(3)
    ]
    rows = [*whole, {**whole[0], "jpg_0": png(200)[:30]}, {**whole[1], "jpg_1": b"no picture"}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "part.parquet")
    for _ in range(2):  # also where the broken ones have been kept before
        found = read_pairs(tmp_path / "part.parquet", tmp_path / "run")
        assert len(found.pairs) == 3 and found.left_out == 2 and found.why == "a picture in the table can't be read"
    for side in ("chosen", "rejected"):
        (tmp_path / "f" / side).mkdir(parents=True)
        for k in range(2):
            (tmp_path / "f" / side / f"{k}.png").write_bytes(png(len(side) + k))
    (tmp_path / "f" / "chosen" / "0.png").write_bytes(b"")
    found = read_pairs(tmp_path / "f", tmp_path / "run")
    assert len(found.pairs) == 1 and found.why == "0.png can't be read"


def test_a_disk_that_gets_full_keeps_no_half_of_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:3])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(FineTuneError, match=r"Cannot keep pictures.*No space left.*Make room"):
        _Files(tmp_path)(png(7))
    assert not list((tmp_path / "pictures").iterdir())


def test_a_ranking_gives_all_pairs_that_it_implies(tmp_path: Path) -> None:
    for k in range(3):
        (tmp_path / f"{k}.png").write_bytes(png(k))
    row = {"generations": ["0.png", "1.png", "2.png"], "ranking": [2, 1, 2], "prompt": "a star"}
    (tmp_path / "sets.jsonl").write_text(json.dumps(row))
    pairs = read_pairs(tmp_path / "sets.jsonl", tmp_path / "run").pairs
    assert [(pair.chosen.stem, pair.rejected.stem, pair.ranking) for pair in pairs] == [("1", "0", 0), ("1", "2", 0)]


def test_what_has_no_pairs_says_why(tmp_path: Path) -> None:
    for k in range(2):
        (tmp_path / f"{k}.png").write_bytes(png(k))
    for row, why in (
        ({"image_0": "0.png", "image_1": "1.png", "label": 0.5}, "ties say nothing here"),
        ({"chosen": "0.png", "rejected": "gone.png"}, "gone.png is gone"),
        ({"chosen": "0.png", "rejected": "../../etc/passwd"}, "outside of"),
        ({"some": 1}, "its columns are some"),
    ):
        (tmp_path / "pairs.jsonl").write_text(json.dumps(row))
        with pytest.raises(NotEnoughAnswersError, match=why):
            read_pairs(tmp_path / "pairs.jsonl", tmp_path / "run")
    with pytest.raises(FileFormatError, match="no such file or folder"):
        read_pairs(tmp_path / "nothing", tmp_path / "run")
    with pytest.raises(FileFormatError, match=r"found a \.pt"):
        (tmp_path / "model.pt").write_bytes(b"x")
        read_pairs(tmp_path / "model.pt", tmp_path / "run")


# -- liked pictures alone


class Painter:
    """Paints the seed."""

    name = "painter"

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def images(self, prompt: str, seeds: list[int]) -> list[Image.Image]:
        self.asked += [(prompt, seed) for seed in seeds]
        return [Image.new("RGB", (8, 8), (0, seed, 0)) for seed in seeds]


def liked(folder: Path) -> Path:
    folder.mkdir()
    for k in range(3):
        (folder / f"{k}.png").write_bytes(png(k))
    (folder / "1.txt").write_text("my cat on a hill")
    return folder


def test_liked_pictures_are_set_against_what_the_model_paints(tmp_path: Path) -> None:
    painter, told = Painter(), []
    pairs = against_samples(
        painter, liked(tmp_path / "liked"), tmp_path / "run", "my cat", seed=7, on_picture=lambda *one: told.append(one)
    )
    assert painter.asked == [("my cat", 7), ("my cat on a hill", 8), ("my cat", 9)]
    assert [pair.chosen.name for pair in pairs] == ["0.png", "1.png", "2.png"] and told[-1] == (3, 3)
    assert [Image.open(pair.rejected).getpixel((0, 0)) for pair in pairs] == [(0, 7, 0), (0, 8, 0), (0, 9, 0)]
    again = Painter()
    assert against_samples(again, tmp_path / "liked", tmp_path / "run", "my cat", seed=7) == pairs and again.asked == []


def test_samples_of_one_liked_picture_are_held_out_together(tmp_path: Path) -> None:
    pairs = against_samples(Painter(), liked(tmp_path / "liked"), tmp_path / "run", "my cat", each=2)
    assert [pair.ranking for pair in pairs] == [0, 0, 1, 1, 2, 2]


def test_a_broken_liked_picture_is_named_before_anything_is_sampled(tmp_path: Path) -> None:
    folder, painter = liked(tmp_path / "liked"), Painter()
    (folder / "zz.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(ImageError, match=r"zz\.png"):
        against_samples(painter, folder, tmp_path / "run", "my cat")
    assert painter.asked == []


def test_liked_pictures_without_a_prompt_and_a_stop(tmp_path: Path) -> None:
    with pytest.raises(FineTuneError, match=r"0\.png has no prompt.*0\.txt"):
        against_samples(Painter(), liked(tmp_path / "liked"), tmp_path / "run")
    with pytest.raises(NotEnoughAnswersError, match="found none"):
        against_samples(Painter(), tmp_path / "nothing", tmp_path / "run", "my cat")
    asked = iter([False, True])
    with pytest.raises(CancelledError, match="kept for the next time"):
        against_samples(Painter(), tmp_path / "liked", tmp_path / "run", "my cat", cancelled=lambda: next(asked))
    rest = Painter()
    against_samples(rest, tmp_path / "liked", tmp_path / "run", "my cat")
    assert len(rest.asked) == 2


# -- answers that say nothing


def test_a_store_of_ties_alone_or_of_lost_pictures_says_so(tmp_path: Path) -> None:
    store = PreferenceStore(tmp_path / "store")
    ids = [store.add_image(Image.new("RGB", (8, 8), (k, 0, 0))) for k in range(2)]
    store.add(Comparison("me", ids[0], ids[1], "tie"))
    with pytest.raises(NotEnoughAnswersError, match="found 1 without a preference, such as ties; expected answers"):
        pairs_of(store, "me")
    store.add(Comparison("me", ids[0], ids[1], "left"))
    store.add(Comparison("me", ids[0], ids[1], "right"))  # contradicts the one before: the last one counts
    (pair,) = pairs_of(store, "me")
    assert pair.chosen.stem == ids[1] and turned_over(store, "me") == 1 and turned_over(store, "you") == 0
    store.image_path(ids[1]).unlink()
    with pytest.raises(NotEnoughAnswersError, match="found 2 whose pictures are gone and 1 without a preference"):
        pairs_of(store, "me")
