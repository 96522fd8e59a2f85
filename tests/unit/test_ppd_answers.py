"""From many people's answers, in a store or in a data set, to a PPD's file."""

from __future__ import annotations

import io
import json
import os
import random
from dataclasses import replace
from pathlib import Path

import pytest
import sdxl_models
import steering_models as tiny
import torch
from palate.adapters.comparisons import Comparison, PreferenceStore
from palate.adapters.errors import CancelledError, EncoderMismatchError, FileFormatError, PPDError
from palate.adapters.files.ppd_file import load_ppd, save_ppd
from palate.adapters.ppd import beginning, memory
from palate.adapters.ppd.base import Readers, load_base
from palate.adapters.ppd.beginning import KnownBy
from palate.adapters.ppd.board import Board, open_board
from palate.adapters.ppd.data import PreparedPPD, support_of
from palate.adapters.ppd.from_answers import Watchers, train_ppd_file
from palate.adapters.ppd.ip_adapter import read
from palate.adapters.ppd.layers import layers_of
from palate.adapters.ppd.model import PPD
from palate.adapters.ppd.preparing import prepare_people
from palate.adapters.ppd.settings import PPDSettings
from palate.adapters.ppd.sources import DataSet, StoreAnswers
from palate.adapters.ppd.tables import Tables, facts_in, prompts_in
from PIL import Image

QUICK = PPDSettings(steps=2, batch=2, check_every=2, size=16, held_out=0.3, judged_pairs=4, sample_every=2)


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_pipeline(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def readers(model: Path) -> Readers:
    return load_base(model, torch.float32).readers(tiny.encoder(), 16, torch.device("cpu"))


def picture(number: int) -> Image.Image:
    return Image.new("RGB", (20, 16), (37 * number % 256, 91 * number % 256, 5))


def png(number: int) -> bytes:
    out = io.BytesIO()
    picture(number).save(out, "PNG")
    return out.getvalue()


def rows(user: int, count: int, first: int = 0, **more: object) -> list[dict[str, object]]:
    """Pick-a-Pic's: the chosen picture of each row comes again in the next one."""
    found = []
    for number in range(first, first + count):
        label = (number + user) % 2
        row = {"jpg_0": png(number), "jpg_1": png(number + 1), "label_0": float(label), "label_1": 1.0 - label}
        about = {"caption": f"a {user % 2} star", "user_id": user, "has_label": True, "are_different": True}
        found.append({**row, **about, **more})
    return found


def write_shards(folder: Path, *shards: list[dict[str, object]]) -> Path:
    import pyarrow
    import pyarrow.parquet

    folder.mkdir(parents=True, exist_ok=True)
    for number, shard in enumerate(shards):
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(shard), folder / f"part-{number:03}.parquet")
    return folder


def pick_a_pic(folder: Path) -> Path:
    """Three people with 6, 4 and 4 pairs in two shards, one with a single pair, two ties, and no answer."""
    ties = [*rows(1, 1, 50, label_0=0.5, label_1=0.5), *rows(1, 1, 60, has_label=False)]
    return write_shards(folder, rows(1, 3) + rows(2, 4, 10) + ties, rows(1, 3, 20) + rows(3, 4, 30) + rows(4, 1, 40))


def as_text(data: PreparedPPD) -> list[tuple]:
    """What a data set says, whatever the order of its tables."""
    found = []
    for index in range(len(data)):
        pair = data.pair(index)
        one, other = data.vectors(index)
        sums = [round(float(part.double().sum()), 4) for part in (pair.chosen, pair.rejected, one, other)]
        found.append((data.names[pair.person], *sums, round(float(data.tokens(pair.prompt)[0].double().sum()), 3)))
    return sorted(found)


# -- a data set


def test_a_pick_a_pic_data_set_becomes_pairs_on_the_disk(tmp_path: Path, readers: Readers) -> None:
    told: list[tuple[int, int]] = []
    source = DataSet(pick_a_pic(tmp_path / "data"))
    data, counted = prepare_people(source, readers, tmp_path / "kept", "m", lambda *done: told.append(done))
    assert data.names == ("1", "2", "3") and len(data) == 14
    assert counted.sentence == (
        "14 pairs of 3 people; left out: 1 ties or without an answer, 1 of 1 people with fewer than 2."
    )
    assert told[-1] == (16, 17)  # the row that nobody answered is none
    pair = data.pair(data.pairs_of(0)[0])
    assert pair.chosen.shape == (4, 8, 8) and pair.size is None
    assert (tmp_path / "kept" / "latents.bin").stat().st_size == 2 * 4 * 8 * 8 * len(data.latents)
    assert prompts_in(tmp_path / "kept") == ["a 1 star", "a 0 star"]
    wanted = readers.text("a 0 star").tokens[0]
    assert torch.allclose(data.tokens(1)[0], wanted, atol=2e-3)
    assert torch.allclose(data.tokens(-1)[0], readers.text("").tokens[0], atol=2e-3)


def test_a_killed_preparation_goes_on_from_its_last_whole_shard(tmp_path: Path, readers: Readers) -> None:
    source = DataSet(pick_a_pic(tmp_path / "data"))
    whole, _ = prepare_people(source, readers, tmp_path / "whole")

    class Killed(BaseException):
        pass

    def kill(done: int, _: int) -> None:
        if done == 14:
            raise Killed

    with pytest.raises(Killed):
        prepare_people(source, readers, tmp_path / "parts", on_answer=kill)
    read: list[int] = []
    parts, counted = prepare_people(source, readers, tmp_path / "parts", on_answer=lambda done, _: read.append(done))
    assert read[0] == 9 and counted.pairs == 14  # the first shard's 8 answers were kept
    assert as_text(parts) == as_text(whole) and len(parts.latents) == len(whole.latents)
    again: list[int] = []
    prepare_people(source, readers, tmp_path / "parts", on_answer=lambda done, _: again.append(done))
    assert again == []


def test_parts_that_are_called_alike_are_all_read(tmp_path: Path, readers: Readers) -> None:
    for split, user in (("train", 1), ("test", 2)):
        write_shards(tmp_path / "data" / "default" / split, rows(user, 2))
    data, _ = prepare_people(DataSet(tmp_path / "data"), readers, tmp_path / "kept")
    assert data.names == ("1", "2")
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    again: list[int] = []
    prepare_people(DataSet(tmp_path / "elsewhere"), readers, tmp_path / "kept", on_answer=lambda *_: again.append(1))
    assert again == []
    alone = tmp_path / "elsewhere" / "default" / "test" / "part-000.parquet"
    assert [answer.person for answer in DataSet(alone).answers(*DataSet(alone).shards())] == ["2", "2"]


def test_a_preparation_of_something_else_begins_anew(tmp_path: Path, readers: Readers) -> None:
    one = DataSet(write_shards(tmp_path / "a", rows(1, 2) + rows(2, 2, 10)))
    other = DataSet(write_shards(tmp_path / "b", rows(7, 3) + rows(8, 3, 10)))
    prepare_people(one, readers, tmp_path / "kept")
    data, _ = prepare_people(other, readers, tmp_path / "kept")
    assert data.names == ("7", "8") and len(data) == 6


def test_stopping_and_a_full_disk(tmp_path: Path, readers: Readers, monkeypatch: pytest.MonkeyPatch) -> None:
    source = DataSet(pick_a_pic(tmp_path / "data"))
    with pytest.raises(CancelledError, match="whole shards"):
        prepare_people(source, readers, tmp_path / "kept", cancelled=lambda: True)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(PPDError, match=r"No space left on device\. What was prepared before is safe"):
        prepare_people(source, readers, tmp_path / "kept")


def test_a_picture_that_comes_again_in_another_shard_is_no_support(tmp_path: Path, readers: Readers) -> None:
    """Person 1's pairs 0 and 1 are in one shard, 2 and 3 in the next; each shares a picture with its neighbours."""
    folder = write_shards(tmp_path / "data", rows(1, 2) + rows(2, 2, 10), rows(1, 2, 2))
    data, _ = prepare_people(DataSet(folder), readers, tmp_path / "kept")
    place = data.names.index("1")
    mine = list(data.pairs_of(place))
    found = [support_of(data, place, index, 16, random.Random(0)) for index in mine]
    assert [sorted(mine.index(row) for row in known) for known in found] == [[2, 3], [3], [0], [0, 1]]


def test_answers_of_nobody_are_not_one_persons(tmp_path: Path, readers: Readers) -> None:
    folder = write_shards(tmp_path / "data", rows(1, 2) + rows(2, 2, 10) + rows(3, 3, 20, user_id=None))
    data, counted = prepare_people(DataSet(folder), readers, tmp_path / "kept")
    assert data.names == ("1", "2") and counted.nameless == 3 and counted.pairs == 4
    assert counted.sentence == "4 pairs of 2 people; left out: 3 that don't say whose they are."


def test_damaged_pictures_and_files_are_left_out_in_numbers(tmp_path: Path, readers: Readers) -> None:
    folder = write_shards(tmp_path / "data", rows(1, 2) + rows(2, 2, 10) + rows(2, 1, 20, jpg_0=b"no picture"))
    (folder / "part-009.parquet").write_bytes(b"PAR1 no parquet")
    _, counted = prepare_people(DataSet(folder), readers, tmp_path / "kept")
    assert counted.lost == 2 and counted.pairs == 4


@pytest.mark.parametrize(
    ("shard", "match"),
    [
        (rows(1, 6), r"6 pairs of 1 people\. Expected two people"),
        (rows(1, 3, label_0=0.5, label_1=0.5), "no answer prefers one of two pictures"),
        (rows(1, 1) + rows(2, 1), "2 of 2 people with fewer than 2"),
    ],
    ids=["one person", "all ties", "too few pairs"],
)
def test_answers_that_cannot_be_trained_on(tmp_path: Path, readers: Readers, shard: list, match: str) -> None:
    with pytest.raises(PPDError, match=match):
        prepare_people(DataSet(write_shards(tmp_path / "data", shard)), readers, tmp_path / "kept")


def test_a_folder_without_a_data_set(tmp_path: Path, readers: Readers) -> None:
    with pytest.raises(FileFormatError, match="no such folder"):
        prepare_people(DataSet(tmp_path / "nowhere"), readers, tmp_path / "kept")
    with pytest.raises(FileFormatError, match=r"expected a folder of \.parquet"):
        prepare_people(DataSet(tmp_path), readers, tmp_path / "kept")


def test_a_table_that_lost_its_end_is_not_taken_for_whole(tmp_path: Path) -> None:
    tables = Tables(tmp_path, {"a": 1})
    tables.add("rows", torch.arange(8).view(2, 4))
    tables.keep()
    (tmp_path / "rows.bin").write_bytes(b"short")
    with pytest.raises(PPDError, match="shorter than it was"):
        Tables(tmp_path, {"a": 1})


# -- a store


@pytest.fixture
def store(tmp_path: Path):
    with PreferenceStore(tmp_path / "store") as found:
        ids = [found.add_image(picture(number)) for number in range(12)]
        for person in range(4):
            for number in range(4):
                sides = ids[(2 * number + person) % 12], ids[(2 * number + person + 1) % 12]
                found.add(Comparison(f"person {person}", *sides, "left", prompt="a red star"))
        found.add(Comparison("shy", ids[0], ids[1], "left"))
        found.add(Comparison("shy", ids[2], ids[3], "tie"))
        yield found


def test_everybody_in_a_store(store: PreferenceStore, tmp_path: Path, readers: Readers) -> None:
    data, counted = prepare_people(StoreAnswers(store), readers, tmp_path / "kept")
    assert data.names == tuple(f"person {k}" for k in range(4)) and counted.alone == 1 and len(data) == 16
    before = StoreAnswers(store).identity
    store.add(Comparison("shy", *[store.comparisons("shy")[0].left, store.comparisons("shy")[1].left], "left"))
    assert StoreAnswers(store).identity != before
    assert StoreAnswers(store, ("person 1",)).shards() == ["person 1"]


# -- all of it


def test_from_a_store_to_a_file_with_pictures_and_curves(store, tmp_path: Path, model: Path) -> None:
    board, painted, steps = open_board(tmp_path / "training"), [], []
    assert isinstance(board, Board)

    def on_sample(step: int, files: tuple[Path, ...]) -> None:
        painted.extend(files)
        board.samples(step, files)

    def on_step(step) -> None:
        steps.append(step)
        board.step(step)

    found = train_ppd_file(
        model,
        StoreAnswers(store),
        QUICK,
        tmp_path / "training",
        tmp_path / "out.safetensors",
        encoder=tiny.encoder(),
        watchers=Watchers(on_step=on_step, on_sample=on_sample),
    )
    board.close()
    assert found.file is not None and found.trained is not None and found.held_out
    ppd = load_ppd(found.file, tiny.encoder())
    assert ppd.base == "custom" and ppd.created and steps[-1].judgement is not None
    assert painted and all(file.is_file() for file in painted)
    assert next((tmp_path / "training" / "tensorboard").glob("events.*")).stat().st_size > 500
    # The same again is done already, and starts from what was kept.
    more = train_ppd_file(
        model, StoreAnswers(store), QUICK, tmp_path / "training", tmp_path / "again", encoder=tiny.encoder()
    )
    assert more.file is not None and load_ppd(more.file).identity == ppd.identity
    further = replace(QUICK, steps=1, sample_every=0)
    started = train_ppd_file(
        model,
        StoreAnswers(store),
        further,
        tmp_path / "more",
        tmp_path / "more.safetensors",
        start=found.file,
        encoder=tiny.encoder(),
    )
    assert started.trained is not None and load_ppd(started.file).identity != ppd.identity


def test_sdxl_has_its_pooled_text_and_its_sizes(store: PreferenceStore, tmp_path: Path) -> None:
    model = sdxl_models.write_sdxl(tmp_path / "sdxl")
    quick = replace(QUICK, steps=1, sample_every=0, gradient_checkpointing=True)
    found = train_ppd_file(
        model, StoreAnswers(store), quick, tmp_path / "training", tmp_path / "out", encoder=tiny.encoder()
    )
    assert found.trained is not None and found.trained.steps == 1
    kept = Tables(tmp_path / "training" / "pairs", facts_in(tmp_path / "training" / "pairs")["about"])
    assert kept.table("pooled").shape == (3, sdxl_models.POOLED)  # two prompts, and none
    assert kept.table("sizes")[0].tolist() == [16, 20]  # height and width as they were, which SDXL is told


def test_it_begins_as_an_ip_adapter_or_as_a_ppd_of_the_same_encoder(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = load_base(model, torch.float32)
    layers = layers_of(base.denoiser)

    def begun_with(file: Path, known: KnownBy = KnownBy(), names: tuple[str, ...] = ()) -> PPD:  # noqa: B008
        return beginning.begun(base, tiny.encoder(), file, 0, known, names, None)

    state = {"image_proj.proj.weight": tiny.drawn(4 * 32, 20), "image_proj.proj.bias": tiny.drawn(4 * 32)}
    state |= {"image_proj.norm.weight": tiny.drawn(32), "image_proj.norm.bias": tiny.drawn(32)}
    for place, layer in enumerate(layers):
        for side in "kv":
            state[f"ip_adapter.{2 * place + 1}.to_{side}_ip.weight"] = tiny.drawn(layer.inner, 32, seed=place)
    with monkeypatch.context() as patched:
        patched.setattr(beginning, "load_ppd", lambda file: read(state, "face", layers))
        begun = begun_with(tmp_path / "face")
        named = begun_with(tmp_path / "face", KnownBy("learned"), ("ann", "ben"))
    assert torch.equal(named.attention.keys[1].weight, begun.attention.keys[1].weight)
    assert named.encoder.names == ("ann", "ben") and named.name == "started from face (IP-Adapter, untrained)"
    assert torch.equal(begun.attention.values[1].weight, state["ip_adapter.3.to_v_ip.weight"])
    assert begun.encoder.kind == "pairs" and begun.image_encoder == tiny.encoder().identity
    file = save_ppd(begun, tmp_path / "begun")
    assert begun_with(file).name == begun.name
    begun.image_encoder = "f" * 64
    with pytest.raises(EncoderMismatchError, match="Choose the first one"):
        begun_with(save_ppd(begun, tmp_path / "other"))
    with pytest.raises(PPDError, match="1,001 people by name; expected 1,000 at most"):
        begun_with(file, KnownBy("learned"), tuple(map(str, range(1001))))


def test_answers_that_came_meanwhile_are_not_put_in_the_place_of_a_stopped_trainings(
    store: PreferenceStore, tmp_path: Path, model: Path
) -> None:
    def train(stopped: bool = False, prepare_only: bool = False):
        told = Watchers(cancelled=lambda: stopped)
        out, encoder = tmp_path / "out", tiny.encoder()
        return train_ppd_file(
            model, StoreAnswers(store), QUICK, tmp_path, out, None, encoder, "cpu", told, prepare_only
        )

    train(prepare_only=True)
    with pytest.raises(CancelledError, match="same name"):
        train(stopped=True)
    first, second = (store.comparisons("person 0")[k] for k in range(2))
    store.add(Comparison("person 0", first.left, second.right, "left"))
    with pytest.raises(PPDError, match="stopped there after 0 steps, and since then the answers"):
        train()


def test_preparing_alone(store, tmp_path: Path, model: Path) -> None:
    found = train_ppd_file(
        model, StoreAnswers(store), QUICK, tmp_path, tmp_path / "out", encoder=tiny.encoder(), prepare_only=True
    )
    assert found.file is None and found.counted.pairs == 16 and not (tmp_path / "checkpoint.pt").exists()


def test_what_memory_will_not_do_is_said_before_anything_is_loaded(
    store, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = json.loads((model / "unet" / "config.json").read_text())
    need = memory.need_of_ppd(config, QUICK, 16, "cpu")
    # Both cross-attention blocks: 1 + 2 layers of 8 channels, keys and values of width 32, and one of 16 in the middle.
    assert need.trained == 16 * 2 * 32 * (8 * 3 + 16)
    big = replace(QUICK, batch=64)
    between = memory.need_of_ppd(config, QUICK, 16, "cpu", 10**6).total + 10**6
    monkeypatch.setattr(memory, "free_bytes", lambda device: between)
    monkeypatch.setattr(memory, "denoiser_of", lambda model: (config, 10**6))
    with pytest.raises(PPDError, match=r"It fits with gradient checkpointing, batch \d+ and accumulate"):
        train_ppd_file(model, StoreAnswers(store), big, tmp_path, tmp_path / "out", encoder=tiny.encoder())
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1000)
    with pytest.raises(PPDError, match="Nothing smaller fits"):
        train_ppd_file(model, StoreAnswers(store), big, tmp_path, tmp_path / "out", encoder=tiny.encoder())
