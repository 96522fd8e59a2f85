"""The gallery: what was painted and with what, on disk, bounded; the settings inside a downloaded picture."""

import io
import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from palate.adapters.errors import ImageError, StoreError
from palate.ui.panel.gallery import Gallery
from palate.ui.panel.png_text import parameters, png_with_settings
from palate.ui.panel.shot import Used
from PIL import Image

USED = Used(
    person="me",
    prompt="a red star",
    negative="",
    seed=7,
    strength=1.0,
    tastes=(("person:me", 1.0), ("file:Ada.safetensors", -0.5)),
    fingerprint="f00",
    method="auto",
    objective="bradley_terry",
    turns=5,
    limit=60.0,
    model="fake",
    steps=20,
    guidance=7.5,
    width=8,
    height=8,
    degrees=12.0,
)


def picture(number):
    return Image.fromarray(np.full((8, 8, 3), number, np.uint8))


def used(number):
    return replace(USED, seed=number)


@pytest.fixture
def gallery(tmp_path):
    return Gallery(tmp_path / "gallery", room=3)


def seeds(gallery, **how):
    return [shot.used.seed for shot in gallery.shots(**how)]


def test_what_was_painted_is_there_after_a_restart_newest_first(gallery, tmp_path):
    shots = [gallery.add(picture(n), used(n), 1.5) for n in range(2)]
    again = Gallery(tmp_path / "gallery")
    assert again.shots() == shots[::-1]
    assert again.get(shots[0].id).used == used(0)
    assert np.array_equal(np.asarray(Image.open(again.path(shots[1]))), np.asarray(picture(1)))


def test_the_oldest_go_and_starred_ones_stay(gallery, tmp_path):
    first = gallery.add(picture(0), used(0), 1.0)
    gallery.star(first.id, True)
    for n in range(1, 6):
        gallery.add(picture(n), used(n), 1.0)
    assert seeds(gallery) == [5, 4, 3, 0]
    assert len(list((tmp_path / "gallery").glob("*.png"))) == 4


def test_the_same_settings_twice_are_one_picture_at_the_top(gallery):
    first = gallery.add(picture(0), used(0), 1.0)
    gallery.add(picture(1), used(1), 1.0)
    assert gallery.add(picture(0), used(0), 1.0).id == first.id
    assert seeds(gallery) == [0, 1]


def test_an_id_never_means_another_picture(gallery):
    before = gallery.add(picture(0), used(0), 1.0)
    after = gallery.add(picture(1), used(0), 1.0)  # a newer version of the model, say
    assert after.id != before.id
    assert np.array_equal(np.asarray(Image.open(gallery.path(gallery.shots()[0]))), np.asarray(picture(1)))


def test_another_taste_of_the_same_name_is_another_picture(gallery):
    gallery.add(picture(0), used(0), 1.0)
    gallery.add(picture(1), replace(used(0), fingerprint="beef"), 1.0)
    assert len(gallery.shots()) == 2


def test_pictures_for_the_slider_are_shown_when_asked_for(gallery):
    gallery.add(picture(0), used(0), 1.0, between=True)
    assert seeds(gallery) == []
    assert seeds(gallery, between=True) == [0]
    gallery.add(picture(0), used(0), 1.0)
    assert seeds(gallery) == [0]


def test_a_deleted_picture_comes_back_until_a_panel_is_opened_later(gallery, tmp_path):
    shot = gallery.add(picture(0), used(0), 1.0)
    gallery.delete(shot.id)
    assert gallery.shots() == []
    with pytest.raises(ImageError, match="was deleted"):
        gallery.get(shot.id)
    assert gallery.restore(shot.id).id == shot.id
    gallery.delete(shot.id)
    Gallery(tmp_path / "gallery")  # a second panel, while the first one still offers to bring it back
    assert gallery.restore(shot.id).id == shot.id
    gallery.delete(shot.id)
    assert Gallery(tmp_path / "gallery", regret=0.0).shots() == []
    assert list((tmp_path / "gallery").glob("*.png")) == []


def test_a_second_panel_leaves_what_the_first_is_just_keeping(gallery, tmp_path, monkeypatch):
    """The file is there before its entry: whoever sweeps then waits for the entry."""
    written, others = Path.write_bytes, []

    def slowly(path, data):
        written(path.with_suffix(".png"), data)
        others.append(threading.Thread(target=Gallery, args=(tmp_path / "gallery",)))
        others[-1].start()
        others[-1].join(0.2)
        return written(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", slowly)
        shot = gallery.add(picture(0), used(0), 1.0)
    others[-1].join()
    assert gallery.path(shot).is_file()


def test_everybody_has_a_gallery_of_their_own(gallery):
    gallery.add(picture(0), used(0), 1.0)
    gallery.add(picture(1), replace(used(1), person='Ben "b"'), 1.0)
    assert seeds(gallery) == [1, 0]
    assert seeds(gallery, person='Ben "b"') == [1]
    assert seeds(gallery, person="nobody") == []
    assert gallery.people() == ['Ben "b"', "me"]


def test_pages_follow_each_other(gallery):
    for n in range(3):
        gallery.add(picture(n), used(n), 1.0)
    page = gallery.shots(count=2)
    assert [shot.used.seed for shot in gallery.shots(before=page[-1].created)] == [0]


def test_a_picture_whose_file_is_gone_is_named(gallery):
    shot = gallery.add(picture(0), used(0), 1.0)
    gallery.path(shot).unlink()
    with pytest.raises(ImageError, match="its file is gone"):
        gallery.path(shot)


def test_a_damaged_index_is_named_and_left_alone(tmp_path):
    (tmp_path / "index.sqlite").write_bytes(b"no database at all, but long enough to be looked at" * 40)
    with pytest.raises(StoreError, match="Cannot use the gallery"):
        Gallery(tmp_path)
    assert (tmp_path / "index.sqlite").read_bytes().startswith(b"no database")


def test_settings_are_written_as_a1111_reads_them():
    assert parameters(replace(USED, negative="blur, noise")) == (
        "a red star\nNegative prompt: blur, noise\n"
        "Steps: 20, CFG scale: 7.5, Seed: 7, Size: 8x8, Model: fake, Palate strength: 1, "
        "Palate tastes: 1 me + -0.5 Ada.safetensors, Palate method: auto, Palate objective: bradley_terry"
    )


def test_a_plain_picture_says_nothing_of_tastes():
    assert "Palate" not in parameters(replace(USED, strength=0.0, tastes=()))


@pytest.mark.parametrize("prompt", ["a red star", "ein Stern, 星 🌟 (red:1.3)"])
def test_a_downloaded_picture_carries_its_settings(prompt):
    data = png_with_settings(picture(3), replace(USED, prompt=prompt))
    image = Image.open(io.BytesIO(data))
    image.load()
    assert image.text["parameters"].splitlines()[0] == prompt
    assert json.loads(image.text["palate"])["prompt"] == prompt
    assert np.array_equal(np.asarray(image), np.asarray(picture(3)))
