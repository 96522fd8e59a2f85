"""A picture that carries a taste: everything comes back, and whatever isn't whole is refused."""

import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from palate.adapters.errors import FileFormatError
from palate.adapters.files import bring_taste, carried, carry, load_taste, save_taste, save_taste_picture, taste_picture
from palate.adapters.files.taste_file import taste_bytes
from palate.adapters.files.taste_picture import taste_mark
from palate.adapters.taste import Accuracy, Taste
from PIL import Image


def taste(seed=0, **changes):
    weights = torch.randn(32, generator=torch.Generator().manual_seed(seed))
    known = {"person": "Mara", "answers": 40, "accuracy": Accuracy(0.7, 0.5, 0.8, 30)} | changes
    return Taste(weights, "e" * 64, "ViT-L-14", created="2026-01-31T12:00:00+00:00", **known)


def plain():
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "PNG")
    return buffer.getvalue()


def test_the_picture_is_the_file(tmp_path):
    before = taste(author="M.", licence="CC0-1.0")
    picture, file = save_taste_picture(before, tmp_path / "a.png"), save_taste(before, tmp_path / "a.safetensors")
    assert carried("a.png", picture.read_bytes(), "a taste") == file.read_bytes()
    assert load_taste(picture).accuracy == before.accuracy


@given(st.binary(max_size=300), st.binary(max_size=300))
@settings(max_examples=50, deadline=None)
def test_any_content_comes_back_and_a_second_one_replaces_it(first, second):
    assert carried("x", carry(carry(plain(), first), second), "it") == second


def test_a_carrier_is_still_a_picture():
    assert Image.open(io.BytesIO(carry(plain(), b"hello"))).convert("RGB").getpixel((0, 0)) == (0, 0, 0)


def test_a_picture_without_anything_says_what_may_have_happened(tmp_path):
    (tmp_path / "photo.png").write_bytes(plain())
    with pytest.raises(FileFormatError, match=r"'photo.png': it is a picture that carries nothing; .*original file"):
        load_taste(tmp_path / "photo.png")


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_a_damaged_picture_is_refused_or_whole(data):
    whole = bytearray(_PICTURE)
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    try:
        found = carried("x.png", damaged, "a taste")
    except FileFormatError:
        return
    assert found == _CONTENT or not damaged.startswith(_PICTURE[:8])


def test_marks_of_alike_tastes_are_alike():
    first, other = taste(0), taste(1)
    near = taste(0)
    object.__setattr__(near, "weights", first.weights + 0.1 * other.weights)
    marks = [taste_mark(one) for one in (first, near, other)]
    alike = torch.nn.functional.cosine_similarity
    assert alike(marks[0], marks[1], dim=0) > 0.95 > 0.6 > alike(marks[0], marks[2], dim=0).abs()


def test_a_name_in_another_script_is_inside_though_not_drawn(tmp_path):
    assert load_taste(save_taste_picture(taste(person="玛拉"), tmp_path / "a.png")).person == "玛拉"


_PICTURE = taste_picture(taste())
_CONTENT = taste_bytes(taste())


@pytest.mark.parametrize(
    "name", ["..", ".", "", "a/../..", "C:\\x\\a?.png", "\ud800.safetensors", "x" * 300, "\0\x1b[2J"]
)
def test_whatever_a_file_is_called_it_is_brought_into_its_folder(tmp_path, name):
    file = bring_taste(name, taste_bytes(taste()), tmp_path / "shelf")
    assert (file.parent, file.suffix) == (tmp_path / "shelf", ".safetensors")
    assert load_taste(file).person == "Mara"


@pytest.mark.parametrize("links", [True, False])
def test_a_name_that_another_process_takes_at_this_moment_is_left_to_it(tmp_path, monkeypatch, links):
    """The other one writes between this one's look and its own write; with and without a file system's links."""
    shelf, other, looked = tmp_path / "shelf", taste_bytes(taste(person="Ben")), []
    shelf.mkdir()

    def look(path, truth=os.path.lexists):
        free = not truth(path)
        if not looked:
            Path(path).write_bytes(other)
        looked.append(path)
        return not free

    def no_links(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os.path, "lexists", look)
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    mine = bring_taste("mara.safetensors", taste_bytes(taste()), shelf)
    assert (shelf / "mara.safetensors").read_bytes() == other
    assert (mine.name, mine.read_bytes()) == ("mara-2.safetensors", taste_bytes(taste()))
    assert sorted(file.name for file in shelf.iterdir()) == ["mara-2.safetensors", "mara.safetensors"]


def test_many_that_drop_one_name_at_once_each_find_theirs(tmp_path):
    """24 tastes called alike and each a second time: 24 files, whoever was first."""
    dropped = [taste_bytes(taste(person=f"p{number}")) for number in range(24)] * 2
    with ThreadPoolExecutor(48) as pool:
        files = list(pool.map(lambda data: bring_taste("mara.safetensors", data, tmp_path), dropped))
    assert [file.read_bytes() for file in files] == dropped
    assert len(set(files)) == len(list(tmp_path.iterdir())) == 24
