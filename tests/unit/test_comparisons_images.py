"""Every picture becomes the same plain RGB, or an error that says why not."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from palate.adapters.comparisons import PreferenceStore, images, read_image
from palate.adapters.errors import ImageError
from PIL import Image

RED = (255, 0, 0)


def noise(width: int = 9, height: int = 5) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def same(first: Image.Image, second: Image.Image) -> bool:
    return first.size == second.size and first.tobytes() == second.tobytes()


def test_pixels_come_back_exactly_and_once(store: PreferenceStore, tmp_path: Path) -> None:
    image = noise()
    image.save(tmp_path / "file.png", pnginfo=None)
    values = np.asarray(image, dtype=np.float32) / 255
    ids = {
        store.add_image(image),
        store.add_image(tmp_path / "file.png"),
        store.add_image(str(tmp_path / "file.png")),
        store.add_image(values),
        store.add_image(torch.from_numpy(values).double()),
        store.add_image(np.asarray(image)),
    }
    assert len(ids) == 1
    (image_id,) = ids
    assert same(store.image(image_id), image)
    assert store.has_image(image_id) and store.image_path(image_id).is_file()
    assert len(list((store.path / "images").rglob("*.png"))) == 1


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=20)
def test_bytes_survive_the_way_through_floats(width: int, height: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(read_image(pixels / 255)), pixels)


def test_the_id_is_the_hash_of_the_file(store: PreferenceStore) -> None:
    image_id = store.add_image(noise())
    assert hashlib.sha256(store.image_path(image_id).read_bytes()).hexdigest() == image_id


def test_one_pixel_is_a_picture(store: PreferenceStore) -> None:
    assert store.image(store.add_image(Image.new("RGB", (1, 1), RED))).getpixel((0, 0)) == RED


def test_exif_turns_the_picture_upright(tmp_path: Path) -> None:
    image = Image.new("RGB", (4, 2))
    image.putpixel((0, 0), RED)
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise: the top left goes to the top right
    image.save(tmp_path / "turned.png", exif=exif)
    upright = read_image(tmp_path / "turned.png")
    assert upright.size == (2, 4) and upright.getpixel((1, 0)) == RED


def test_transparency_is_laid_over_white() -> None:
    half = Image.new("RGBA", (1, 1), (0, 0, 0, 0))
    assert read_image(half).getpixel((0, 0)) == (255, 255, 255)
    assert read_image(Image.new("LA", (1, 1), (0, 0))).getpixel((0, 0)) == (255, 255, 255)
    assert read_image(Image.new("RGBA", (1, 1), (255, 0, 0, 255))).getpixel((0, 0)) == RED


def test_a_palette_with_transparency(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "palette.png", transparency=1)
    read = read_image(tmp_path / "palette.png")
    assert [read.getpixel((x, 0)) for x in (0, 1)] == [RED, (255, 255, 255)]


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "print.tiff")
    assert read_image(tmp_path / "print.tiff").getpixel((0, 0)) == RED


@pytest.mark.parametrize(("grey", "expected"), [(0, 0), (257 * 100, 100), (65535, 255)])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path, grey: int, expected: int) -> None:
    Image.fromarray(np.full((2, 2), grey, dtype=np.uint16)).save(tmp_path / "deep.png")
    assert read_image(tmp_path / "deep.png").getpixel((0, 0)) == (expected,) * 3


def test_a_float_picture_is_scaled_and_nan_refused() -> None:
    assert read_image(Image.fromarray(np.full((1, 1), 0.2, dtype=np.float32))).getpixel((0, 0)) == (51, 51, 51)
    with pytest.raises(ImageError, match="NaN"):
        read_image(Image.fromarray(np.full((1, 1), np.nan, dtype=np.float32)))


@pytest.mark.parametrize("ending", ["gif", "webp", "png"])
def test_an_animation_gives_its_first_frame(tmp_path: Path, ending: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    file = tmp_path / f"moving.{ending}"
    frames[0].save(file, save_all=True, append_images=frames[1:], lossless=True)
    assert read_image(file).getpixel((0, 0)) == RED
    with Image.open(file) as moving:
        moving.seek(1)
        assert read_image(moving).getpixel((0, 0)) == RED


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "gif", "tiff"])
def test_a_truncated_file_is_refused(tmp_path: Path, ending: str) -> None:
    noise(64, 64).save(tmp_path / f"whole.{ending}")
    data = (tmp_path / f"whole.{ending}").read_bytes()
    (tmp_path / f"half.{ending}").write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError, match="Save it again, or pick another"):
        read_image(tmp_path / f"half.{ending}")


def test_no_picture_at_all_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "empty.png").write_bytes(b"")
    for name in ("text.png", "empty.png", "."):
        with pytest.raises(ImageError, match="Cannot read"):
            read_image(tmp_path / name)
    with pytest.raises(ImageError, match="there is no such file"):
        read_image(tmp_path / "missing.png")


def test_postscript_is_never_handed_to_ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: noise().im)
    with pytest.raises(ImageError, match="cannot identify"):
        read_image(tmp_path / "a.png")


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such files")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(ImageError, match="no file"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["a" * 4000, "a\0b", ""])
def test_a_name_that_no_file_has_is_refused(name: str) -> None:
    with pytest.raises(ImageError, match="Cannot read"):
        read_image(name)


@pytest.mark.parametrize("side", [9_000, 30_000, 100_000])
def test_a_decompression_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, side: int) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    with pytest.raises(ImageError, match="expected at most 67108864 pixels"):
        read_image(tmp_path / "bomb.png")


def test_arrays_and_images_have_the_same_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 10)
    for picture in (Image.new("RGB", (4, 3)), np.zeros((3, 4, 3)), np.zeros((3, 4, 3), np.uint8)):
        with pytest.raises(ImageError, match="4 x 3 pixels"):
            read_image(picture)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((2, 2, 3), np.nan), "it holds NaN"),
        (np.full((2, 2, 3), np.inf), "go from inf to inf"),
        (np.full((2, 2, 3), 255.0), "go from 255 to 255"),
        (np.full((2, 2, 3), -1.0), "go from -1 to -1"),
        (torch.zeros(1, 2, 2, 3), r"its shape is \(1, 2, 2, 3\)"),
        (np.zeros((2, 2)), r"its shape is \(2, 2\)"),
        (np.zeros((0, 2, 3)), r"its shape is \(0, 2, 3\)"),
        (np.zeros((2, 2, 4), np.uint8), r"its shape is \(2, 2, 4\)"),
        (object(), "found object"),
    ],
)
def test_bad_arrays_are_refused(array: object, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        read_image(array)


def test_a_little_overshoot_is_clipped() -> None:
    assert read_image(torch.tensor([[[-0.1, 0.5, 1.1]]])).getpixel((0, 0)) == (0, 128, 255)


@pytest.mark.parametrize("image_id", ["../../store.sqlite", "", "A" * 64, "a" * 63, "/" * 64, "é" * 64])
def test_an_id_never_becomes_a_path(store: PreferenceStore, image_id: str) -> None:
    assert not store.has_image(image_id)
    with pytest.raises(ImageError, match="expected 64 digits"):
        store.image_path(image_id)


def test_a_missing_picture_says_so(store: PreferenceStore) -> None:
    with pytest.raises(ImageError, match="Add the picture again"):
        store.image("a" * 64)


def test_a_lost_or_cut_picture_is_repaired_by_adding_it_again(store: PreferenceStore) -> None:
    image_id = store.add_image(noise())
    file = store.image_path(image_id)
    for damage in (file.unlink, lambda: file.write_bytes(b"\x89PNG"), lambda: file.write_bytes(b"")):
        damage()
        with pytest.raises(ImageError):
            store.image(image_id)
        assert store.add_image(noise()) == image_id and same(store.image(image_id), noise())


def test_another_encoder_of_the_same_pixels_keeps_the_id(
    store: PreferenceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_id = store.add_image(noise())

    def other_encoder(image: Image.Image) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, "PNG", compress_level=0)
        return buffer.getvalue()

    monkeypatch.setattr("palate.adapters.comparisons.image_store.encode_png", other_encoder)
    assert store.add_image(noise()) == image_id
    store.image_path(image_id).unlink()
    assert store.add_image(noise()) == image_id and same(store.image(image_id), noise())


def test_text_and_profiles_are_not_kept(store: PreferenceStore) -> None:
    image = noise()
    image.info["icc_profile"] = b"profile"
    image.info["text"] = "private"
    with Image.open(io.BytesIO(store.image_path(store.add_image(image)).read_bytes())) as kept:
        assert kept.info == {}
