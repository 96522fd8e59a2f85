"""Answers that a training leaves out as doubted: which, how they are said, and what is never touched."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from palate.adapters.comparisons import Comparison, PreferenceStore
from palate.adapters.errors import CancelledError, FineTuneError, NotEnoughAnswersError
from palate.adapters.finetune.checkpoint import STAGE, write_checkpoint
from palate.adapters.finetune.dropping import FEWEST, LIST, NAMED, Dropped, decided, without_doubted
from palate.adapters.finetune.pairs import LabelledPair, pairs_of
from palate.adapters.finetune.several import Several
from palate.adapters.finetune.vectors import encoded_vectors, pictures_of, stored_vectors
from PIL import Image


def answers(count: int, wrong: int) -> tuple[list[LabelledPair], dict[Path, np.ndarray]]:
    """Pairs of one who likes the first number large, the last so many the other way round, and their vectors."""
    rng = np.random.default_rng(0)
    vectors, pairs = {}, []
    for number in range(count):
        sides = Path(f"{number}-more.png"), Path(f"{number}-less.png")
        for side, sign in zip(sides, (1, -1), strict=True):
            vectors[side] = np.array([sign, *rng.normal(0, 0.2, 2)], np.float32)
        pairs.append(LabelledPair(*(sides if number < count - wrong else reversed(sides)), f"prompt {number}"))
    return pairs, vectors


def test_what_all_others_speak_against_is_left_out_and_the_rest_keeps_its_order() -> None:
    pairs, vectors = answers(40, 3)
    kept, dropped = without_doubted(pairs, vectors)
    assert kept == pairs[:37] and set(dropped.pairs) == set(pairs[37:]) and dropped.of == 40 and not dropped.unknown
    assert list(dropped.doubts) == sorted(dropped.doubts, reverse=True) and min(dropped.doubts) > 0.3
    assert dropped.said == "Left out: 3 of 40 answers, which a taste of the others doubts."


def test_who_never_contradicts_loses_nothing() -> None:
    pairs, vectors = answers(20, 0)
    kept, dropped = without_doubted(pairs, vectors)
    assert kept == pairs and not dropped and dropped.said.startswith("None of 20")


def test_pairs_without_vectors_stay_and_most_must_have_some() -> None:
    pairs, vectors = answers(40, 3)
    for pair in [*pairs[:10], pairs[-1]]:
        vectors.pop(pair.rejected)
    kept, dropped = without_doubted(pairs, vectors)
    assert set(dropped.pairs) == set(pairs[37:39]) and pairs[-1] in kept and dropped.unknown == 11
    assert dropped.said.endswith("11 could not be judged and stay.")
    with pytest.raises(FineTuneError, match=r"pictures of 0 of 40 answers.*--encoder playground"):
        without_doubted(pairs, {})


def test_too_few_left_is_said() -> None:
    pairs, vectors = answers(FEWEST + 1, 2)
    with pytest.raises(NotEnoughAnswersError, match=r"2 of 7 are doubted, which leaves 5; expected 6 or more"):
        without_doubted(pairs, vectors)
    few, some = answers(3, 0)
    assert without_doubted(few, some)[0] == few  # nothing is doubted, so nothing is taken from the few


def test_which_they_are_is_listed_and_written_into_the_file(tmp_path: Path) -> None:
    pairs = [LabelledPair(Path(f"/home/{k}a.png"), Path(f"/home/{k}b.png"), "ein Bär") for k in range(NAMED + 5)]
    dropped = Dropped(tuple(pairs), tuple(0.9 for _ in pairs), 1000)
    lines = [json.loads(line) for line in dropped.write(tmp_path / "new").read_text(encoding="utf-8").splitlines()]
    assert len(lines) == NAMED + 5
    assert lines[1] == {"chosen": "/home/1a.png", "rejected": "/home/1b.png", "prompt": "ein Bär", "doubt": 0.9}
    about = dropped.about
    assert about["palate.dropped"] == f"{NAMED + 5} of 1000"
    named = json.loads(about["palate.dropped_pairs"])
    assert len(named) == NAMED and named[0] == ["0a", "0b", 0.9]
    (tmp_path / "file").write_text("")
    with pytest.raises(FineTuneError, match="Cannot list answers"):
        dropped.write(tmp_path / "file")
    assert (tmp_path / "new" / LIST).is_file()


def test_a_store_gives_the_vectors_of_the_encoder_that_knows_most(tmp_path: Path) -> None:
    with PreferenceStore(tmp_path / "store") as store:
        for k in range(3):
            light, dark = (store.add_image(Image.new("RGB", (4, 4), (c + k, c, c))) for c in (200, 40))
            store.add(Comparison("mara", light, dark, "left"))
            store.put_vectors("whole", {light: np.ones(2), dark: np.zeros(2)})
        store.put_vectors("part", {light: np.ones(5)})
        pairs = pairs_of(store, "mara")
        found = stored_vectors(store, "mara", pairs)
        assert set(found) == set(pictures_of(pairs)) and {len(vector) for vector in found.values()} == {2}
        assert found[pairs[0].chosen].tolist() == [1.0, 1.0] and found[pairs[0].rejected].tolist() == [0.0, 0.0]
        assert stored_vectors(store, "otto", pairs) == {}


def test_each_picture_is_encoded_once_and_a_few_at_a_time(tmp_path: Path) -> None:
    seen: list[int] = []

    class Counting:
        def encode_images(self, images: list[Image.Image]) -> torch.Tensor:
            seen.append(len(images))
            return torch.tensor([[np.asarray(image).mean(), 1.0] for image in images])

    files = [tmp_path / f"{k}.png" for k in range(20)]
    for k, file in enumerate(files):
        Image.new("RGB", (4, 4), (k, k, k)).save(file)
    pairs = [LabelledPair(files[0], file) for file in files[1:]]
    found = encoded_vectors(pairs, Counting())
    assert seen == [16, 4] and [found[file][0] for file in files] == list(range(20))
    with pytest.raises(CancelledError):
        encoded_vectors(pairs, Counting(), lambda: True)


def test_where_it_can_not_be_told_nothing_is_left_out_unless_somebody_asked(tmp_path: Path) -> None:
    pairs, vectors = answers(40, 3)
    few, known = answers(FEWEST + 1, 2)

    def left_out(some: list[LabelledPair], what: dict[Path, np.ndarray], asked: bool | None) -> int | None:
        found = decided(some, lambda: what, asked, tmp_path, "about", Several())
        return None if found is None else len(found)

    assert [left_out(pairs, vectors, asked) for asked in (None, True, False)] == [3, 3, None]
    assert left_out(pairs, {}, None) is left_out(few, known, None) is None
    for some, what in ((pairs, {}), (few, known)):
        with pytest.raises((FineTuneError, NotEnoughAnswersError)):
            left_out(some, what, True)


def test_the_list_of_an_earlier_training_goes_where_nothing_is_left_out(tmp_path: Path) -> None:
    pairs, vectors = answers(40, 3)
    listed = without_doubted(pairs, vectors)[1].write(tmp_path)
    assert len(listed.read_text().splitlines()) == 3
    decided(pairs, lambda: vectors, False, tmp_path, "about", Several())
    assert not listed.exists()
    without_doubted(pairs, vectors)[1].write(tmp_path)
    without_doubted(pairs[:20], vectors)[1].write(tmp_path)
    assert not listed.exists()


@pytest.mark.parametrize("ended", [False, True], ids=["in its first stage", "after it"])
def test_what_was_stopped_before_its_last_stage_goes_on_without_the_same_answers(tmp_path: Path, ended: bool) -> None:
    """Vectors of more pictures came to be known meanwhile: with other pairs it would be refused."""
    pairs, vectors = answers(40, 3)
    begun = decided(pairs, lambda: {}, None, tmp_path, "about", Several())
    stage = tmp_path / f"{STAGE}1 sft"
    stage.mkdir()
    write_checkpoint(stage, {"step": 3, "ended": ended, "settings": {}, "parameters": [], "optimizer": {}})
    assert begun is None is decided(pairs, lambda: vectors, None, tmp_path, "about", Several())
    write_checkpoint(tmp_path, {"step": 3, "ended": True, "settings": {}, "parameters": [], "optimizer": {}})
    found = decided(pairs, lambda: vectors, None, tmp_path, "about", Several())
    assert (None if found is None else len(found)) == (3 if ended else None)


class Second(Several):
    """Of two processes the second, which hears what the first said."""

    def __init__(self, said: object) -> None:
        super().__init__(1, 2)
        object.__setattr__(self, "said", said)

    def told(self, value: object) -> object:
        assert value is None
        return self.said  # type: ignore[attr-defined]


def test_of_several_processes_the_first_decides_for_all(tmp_path: Path) -> None:
    """The second looks at no picture, writes nothing, and ends with the first one's words where that can't go on."""
    pairs, vectors = answers(40, 3)
    first = without_doubted(pairs, vectors)[1]
    arguments = (pairs, lambda: pytest.fail("asked"), True, tmp_path / "run", "about")
    assert decided(*arguments, Second(first)) == first and not (tmp_path / "run").exists()
    with pytest.raises(NotEnoughAnswersError, match="too few"):
        decided(*arguments, Second(NotEnoughAnswersError("too few")))
