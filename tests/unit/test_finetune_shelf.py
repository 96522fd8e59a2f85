"""Pairs made ready on the disk: the same to the bit as in memory, a picture at a time, gone on with after a kill."""

from __future__ import annotations

import os
import random
import sys
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from palate.adapters.errors import FineTuneError, ImageError
from palate.adapters.finetune import latents
from palate.adapters.finetune import shelf as shelves
from palate.adapters.finetune.pairs import LabelledPair
from palate.adapters.finetune.personal import _shelf
from palate.adapters.finetune.prepared import Prepared, latents_of, prepare
from palate.adapters.finetune.several import Several, several
from palate.adapters.finetune.shelf import Shelf
from PIL import Image

CPU = torch.device("cpu")


class Config(dict[str, Any]):
    scaling_factor = 2.0


class Encoder:
    """An autoencoder by whom every eighth pixel is a latent; counts what it makes."""

    device, dtype, config = CPU, torch.float32, Config()

    def __init__(self) -> None:
        self.made = 0

    def encode(self, pixels: torch.Tensor) -> SimpleNamespace:
        self.made += 1
        latents = pixels[:, :, ::8, ::8].repeat(1, 2, 1, 1)[:, :4]
        return SimpleNamespace(latent_dist=SimpleNamespace(mean=latents))


class Text:
    """A text side by which a prompt's tokens are its length; pooled for large ones."""

    def __init__(self, large: bool = False) -> None:
        self.large, self.asked = large, list[str]()

    def plain(self, prompt: str) -> SimpleNamespace:
        self.asked.append(prompt)
        tokens = torch.full((1, 100, 3), float(len(prompt)))
        return SimpleNamespace(tokens=tokens, pooled=tokens[:, 0] if self.large else None)


@pytest.fixture
def pairs(tmp_path: Path) -> list[LabelledPair]:
    """Twelve, some wide and some high, with five prompts."""
    found = []
    for number in range(12):
        files = []
        for side in range(2):
            size = (48, 24) if number % 3 == 0 else (24, 48)
            files.append(tmp_path / f"{number}-{side}.png")
            Image.effect_noise(size, 20 + number).convert("RGB").save(files[-1])
        found.append(LabelledPair(files[0], files[1], "x" * (number % 5)))
    return found


def made(
    pairs: list[LabelledPair], shelf: Shelf | None = None, vae: Any = None, text: Any = None, mirror: bool = False
) -> Prepared:
    return prepare(pairs, vae or Encoder(), text or Text(), 32, 8, mirror=mirror, shelf=shelf)


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("large", [False, True])
def test_from_the_disk_come_the_same_bits(pairs: list[LabelledPair], tmp_path: Path, mirror: bool, large: bool) -> None:
    with Shelf(tmp_path / "shelf", "model") as shelf:
        here, there = (made(pairs, where, text=Text(large), mirror=mirror) for where in (None, shelf))
        assert len(there) == 12 and len({there.shape(index) for index in range(12)}) == 2
        for seed in range(4):
            rows, others = (each.draw(3, random.Random(seed)) for each in (here, there))
            assert rows == others
            one, other = (each.batch(rows, CPU, [True], [False, True]) for each in (here, there))
            for name, value in vars(one).items():
                assert value is None if getattr(other, name) is None else torch.equal(value, getattr(other, name)), name
        assert (there.mirrored is not None) == mirror and (there.pooled is not None) == large


def test_only_what_is_at_hand_is_in_memory(
    pairs: list[LabelledPair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: list[weakref.ref[torch.Tensor]] = []
    most: list[int] = []

    def watched(vae: Any, picture: Image.Image) -> torch.Tensor:
        latents = latents_of(vae, picture)
        alive.append(weakref.ref(latents))
        most.append(sum(one() is not None for one in alive))
        return latents

    monkeypatch.setattr(latents, "latents_of", watched)
    with Shelf(tmp_path / "shelf", "model") as shelf:
        data = made(pairs * 3, shelf)
        data.batch(data.draw(4, random.Random(0)), CPU)
        assert len(alive) == 24 and max(most) <= 2  # each picture once, and one may wait for the next
    kept = made(pairs)
    assert most[-1] == 24 and len(kept) == 12


def test_what_was_killed_goes_on_and_half_of_a_tensor_is_made_again(pairs: list[LabelledPair], tmp_path: Path) -> None:
    with Shelf(tmp_path / "shelf", "model") as shelf:
        made(pairs[:8], shelf)
    numbers = tmp_path / "shelf" / "tensors.bin"
    lines = tmp_path / "shelf" / "tensors.jsonl"
    whole = numbers.stat().st_size
    with lines.open("ab") as file:
        file.write(b'["half of a li')
    for damage in ("line", "tensor"):
        if damage == "tensor":
            with numbers.open("rb+") as file:
                file.truncate(whole - 2)
        vae, text = Encoder(), Text()
        with Shelf(tmp_path / "shelf", "model") as shelf:
            there = made(pairs[:8], shelf, vae, text)
            assert torch.equal(there.batch([7], CPU).rejected, made(pairs[:8]).batch([7], CPU).rejected)
        assert vae.made == 0 and text.asked == ([] if damage == "line" else ["xxxx"])  # whose tokens were the last


def test_other_pictures_and_models_are_not_taken_for_these(pairs: list[LabelledPair], tmp_path: Path) -> None:
    with Shelf(tmp_path / "shelf", "model") as shelf:
        made(pairs, shelf)
    Image.new("RGB", (24, 48), (200, 0, 0)).save(pairs[1].chosen)
    vae = Encoder()
    with Shelf(tmp_path / "shelf", "model") as shelf:
        there = made(pairs, shelf, vae)
        assert vae.made == 1
        assert torch.equal(there.batch([1], CPU).chosen, made(pairs).batch([1], CPU).chosen)
    with Shelf(tmp_path / "shelf", "another model") as shelf:
        assert len(shelf) == 0 and shelf.find("tokens ") is None
    pairs[0].chosen.unlink()
    with Shelf(tmp_path / "shelf", "model") as shelf, pytest.raises(ImageError, match=pairs[0].chosen.name):
        made(pairs, shelf)


def test_a_full_disk_is_named_and_what_was_made_stays(
    pairs: list[LabelledPair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with Shelf(tmp_path / "shelf", "model") as shelf:
        made(pairs[:4], shelf)
        before = len(shelf)
        with monkeypatch.context() as patched, pytest.raises(FineTuneError, match=r"No space left.*make room"):
            patched.setattr(shelves.os, "fsync", full)
            made(pairs, shelf)
    with Shelf(tmp_path / "shelf", "model") as shelf:
        assert len(shelf) >= before
        vae = Encoder()
        made(pairs[:4], shelf, vae)
        assert vae.made == 0
        shelf.forget()
    assert not list((tmp_path / "shelf").iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="asks a device of Linux")
def test_a_disk_that_is_full_at_the_end_is_no_traceback(tmp_path: Path) -> None:
    with Shelf(tmp_path, "model") as shelf:
        shelf.add("one", torch.ones(2))
        shelf.keep()
        shelf.add("two", torch.ones(2))
        with open("/dev/full", "ab") as full:
            for file in (shelf._numbers, shelf._lines):
                os.dup2(full.fileno(), file.fileno())
        with pytest.raises(FineTuneError, match=r"No space left.*make room"):
            shelf.keep()
    assert shelf._numbers.closed and shelf._lines.closed
    with Shelf(tmp_path, "model") as shelf:
        assert len(shelf) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="asks for a file with holes")
def test_a_shelf_may_be_larger_than_memory(tmp_path: Path) -> None:
    with Shelf(tmp_path, "model") as shelf:
        shelf.add("one", torch.ones(2))
        shelf.keep()
        os.truncate(tmp_path / "tensors.bin", 1 << 42)  # with holes
        shelf._know("the rest", ((1 << 40) - 3,))
        place = shelf._know("last", (1,))
        assert shelf[place].item() == 0.0


def test_prompts_of_another_precision_are_not_taken_for_these(tmp_path: Path) -> None:
    for precision, there in (("bfloat16", 0), ("bfloat16", 1), ("float32", 0)):
        with _shelf(tmp_path, "playground", precision, several()) as shelf:
            assert len(shelf) == there
            shelf.add("tokens a house", torch.ones(2))


def test_of_several_processes_on_a_machine_one_prepares_for_all(
    pairs: list[LabelledPair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second waits for the first, finds everything and adds nothing; another machine has its own."""
    waited: list[int] = []
    monkeypatch.setattr(Several, "wait", lambda self: waited.append(self.index))
    encoders = [Encoder() for _ in range(3)]

    def made(shelf: Shelf, number: int) -> Prepared:
        return prepare(pairs, encoders[number], Text(), 64, 8, shelf=shelf)

    with _shelf(tmp_path, "playground", "float32", Several(0, 4, CPU, 0)) as shelf:
        one, there = made(shelf, 0), len(shelf)
        with _shelf(tmp_path, "playground", "float32", Several(1, 4, CPU, 1)) as same:
            two = made(same, 1)
            assert waited == [1] and len(same) == there and encoders[1].made == 0 < encoders[0].made
            assert all(torch.equal(mine, theirs) for mine, theirs in zip(one.chosen, two.chosen, strict=True))
        with _shelf(tmp_path, "playground", "float32", Several(2, 4, CPU, 0)) as elsewhere:
            made(elsewhere, 2)
    assert encoders[2].made == encoders[0].made
    assert sorted(place.name for place in (tmp_path / "prepared").iterdir()) == ["0", "2"]


def test_a_model_that_was_replaced_in_its_place_is_another_one(tmp_path: Path) -> None:
    weights = tmp_path / "model" / "vae" / "weights.safetensors"
    weights.parent.mkdir(parents=True)
    for text, time, there in (("old", 1, 0), ("old", 1, 1), ("older", 1, 0), ("older", 2, 0), ("older", 2, 1)):
        weights.write_text(text)
        os.utime(weights, ns=(time, time))
        with _shelf(tmp_path, tmp_path / "model", "float32", several()) as shelf:
            assert len(shelf) == there
            if not there:
                shelf.add("tokens a house", torch.ones(2))


@pytest.mark.parametrize("line", [b"[]", b"5", b'["a", [-1]]', b'["a", ["b"]]', b'["a", [1000000000000]]', b"\xff"])
def test_lines_that_nobody_wrote_are_cut_off(tmp_path: Path, line: bytes) -> None:
    with Shelf(tmp_path, "model") as shelf:
        shelf.add("one", torch.arange(6.0).view(2, 3))
    with (tmp_path / "tensors.jsonl").open("ab") as file:
        file.write(line + b'\n["two", [1]]\n')
    with Shelf(tmp_path, "model") as shelf:
        assert len(shelf) == 1 and shelf.find("two") is None
        place = shelf.add("two", torch.ones(1))
        assert shelf[place].item() == 1.0 and torch.equal(shelf[0], torch.arange(6.0).view(2, 3))
