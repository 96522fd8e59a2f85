"""Embedding files: what is written, what is refused, and what other tools' files are read as."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from palate.adapters.errors import FileFormatError, ShapeError, StoreError
from palate.adapters.files import check_embedding_name, load_embedding, save_embedding
from palate.adapters.steering.portable import PortableEmbedding
from safetensors import safe_open
from safetensors.torch import load_file, save_file

SD15 = PortableEmbedding(
    {"clip_l": torch.arange(12.0).reshape(3, 4)},
    person="Mara Ö.",
    base="sd15",
    effect={"degrees": 20.5, "kept": 0.9},
    encoders={"clip_l": "abc"},
    answers=40,
    created="2026-01-31T12:00:00+00:00",
)
SDXL = replace(SD15, vectors={"clip_l": torch.ones(2, 4), "clip_g": torch.ones(2, 6)}, base="sdxl")


@pytest.mark.parametrize("embedding", [SD15, SDXL])
def test_a_file_gives_back_what_was_saved(embedding: PortableEmbedding, tmp_path: Path) -> None:
    found = load_embedding(save_embedding(embedding, tmp_path / "maras-taste.safetensors"))
    assert {k: v.tolist() for k, v in found.vectors.items()} == {k: v.tolist() for k, v in embedding.vectors.items()}
    assert replace(found, vectors={}) == replace(embedding, vectors={})


def test_one_text_encoder_is_one_tensor_named_as_the_file(tmp_path: Path) -> None:
    path = save_embedding(SD15, tmp_path / "deep" / "maras-taste")
    assert path.name == "maras-taste.safetensors" and list(load_file(path)) == ["maras-taste"]
    assert load_file(path)["maras-taste"].dtype == torch.float32


def test_two_text_encoders_are_two_tensors_as_sdxl_tools_name_them(tmp_path: Path) -> None:
    path = save_embedding(SDXL, tmp_path / "maras-taste")
    assert {key: tuple(value.shape) for key, value in load_file(path).items()} == {"clip_l": (2, 4), "clip_g": (2, 6)}


def test_the_same_embedding_gives_the_same_bytes_and_a_private_one_names_nobody(tmp_path: Path) -> None:
    first, second = (save_embedding(SD15, tmp_path / n / "maras-taste") for n in "ab")
    assert first.read_bytes() == second.read_bytes()
    private = save_embedding(SD15, tmp_path / "private-one", private=True)
    assert b"Mara" not in private.read_bytes() and load_embedding(private).person == ""


def test_provenance_is_text_in_the_metadata(tmp_path: Path) -> None:
    with safe_open(save_embedding(SD15, tmp_path / "maras-taste"), "pt") as file:
        said = file.metadata()
    assert (said["format"], said["version"], said["base"]) == ("palate.embedding", "1", "sd15")
    assert json.loads(said["effect"]) == {"degrees": 20.5, "kept": 0.9}


def test_ones_own_is_replaced_and_another_persons_is_not(tmp_path: Path) -> None:
    path = save_embedding(SD15, tmp_path / "maras-taste")
    save_embedding(replace(SD15, answers=41), path)
    assert load_embedding(path).answers == 41
    with pytest.raises(StoreError, match="another person"):
        save_embedding(replace(SD15, person="Jo"), path)
    assert load_embedding(path).person == "Mara Ö."


def test_a_file_that_palate_did_not_make_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "theirs-one.safetensors"
    save_file({"x": torch.ones(2, 4)}, path)
    before = path.read_bytes()
    with pytest.raises(StoreError, match="no embedding of Palate"):
        save_embedding(SD15, path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["my-taste", "maras_taste", "mara2-likes", "p4"])
def test_names_that_every_host_takes(name: str) -> None:
    assert check_embedding_name(name) == name


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "blank"),
        ("star", "knows already.*'star-taste'"),
        ("ing", "knows already"),
        ("Mara", "'mara-taste'"),
        ("my taste", "'my-taste'"),
        ("../up", "no name that all tools"),
        ("a/b", "'a-b'"),
        ("a\\b", "no name"),
        ("a:1.2", "no name"),
        ("(my)", "no name"),
        ("x", "no name"),
        ("2026", "no name"),
        ("con", "no name"),
        ("clip_g", "text encoder"),
        ("é", "'my-taste'"),
        ("a" * 61, "no name"),
        ("tail-", "no name"),
    ],
)
def test_names_that_some_host_would_not_take_are_refused_with_another_one(name: str, said: str) -> None:
    with pytest.raises(FileFormatError, match=said):
        check_embedding_name(name)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=80))
def test_any_text_is_a_name_or_gets_one_that_is(name: str) -> None:
    try:
        check_embedding_name(name)
    except FileFormatError as error:
        assert check_embedding_name(str(error).rsplit("Call it '", 1)[1].removesuffix("'."))


@pytest.mark.parametrize(
    "vectors",
    [
        {},
        {"clip_g": torch.ones(2, 4)},
        {"clip_l": torch.ones(4)},
        {"clip_l": torch.ones(0, 4)},
        {"clip_l": torch.ones(33, 4)},
        {"clip_l": torch.full((1, 4), float("nan"))},
        {"clip_l": torch.ones(2, 4), "clip_g": torch.ones(3, 4)},
    ],
)
def test_what_no_host_would_take_is_not_saved(vectors, tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match="Cannot save the embedding"):
        save_embedding(replace(SD15, vectors=vectors), tmp_path / "my-taste")
    assert list(tmp_path.iterdir()) == []


def test_foreign_files_are_read(tmp_path: Path) -> None:
    save_file({"<cat>": torch.ones(4)}, tmp_path / "one.safetensors")
    save_file({"clip_g": torch.ones(2, 6).half(), "clip_l": torch.ones(2, 4).half()}, tmp_path / "two.safetensors")
    save_file({"emb_params": torch.ones(2, 768)}, tmp_path / "three.safetensors", {"format": "pt"})
    assert load_embedding(tmp_path / "one.safetensors").vectors["clip_l"].shape == (1, 4)
    two = load_embedding(tmp_path / "two.safetensors")
    assert two.base == "sdxl" and two.vectors["clip_g"].dtype == torch.float32
    assert load_embedding(tmp_path / "three.safetensors").base == "sd15"


@pytest.mark.parametrize(
    ("tensors", "metadata", "said"),
    [
        ({"a": torch.ones(2, 4), "b": torch.ones(2, 4)}, None, "holds a, b"),
        ({"a": torch.ones(2, 4, 4)}, None, "shape"),
        ({"a": torch.ones(2, 4, dtype=torch.int64)}, None, "int64"),
        ({"a": torch.ones(76, 4)}, None, "76"),
        ({"a": torch.full((2, 4), float("inf"))}, None, "NaN or infinity"),
        ({"clip_l": torch.ones(2, 4), "clip_g": torch.ones(1, 4)}, None, "not as many"),
        ({"a": torch.ones(2, 4)}, {"format": "palate.taste"}, "palate.taste"),
        ({"a": torch.ones(2, 4)}, {"format": "palate.embedding", "version": "2"}, "Update Palate"),
        ({"a": torch.ones(2, 4)}, {"format": "palate.embedding", "version": "1", "effect": "[]"}, "broken"),
        ({"a": torch.ones(2, 4)}, {"format": "palate.embedding", "version": "1", "effect": '{"a": "x"}'}, "numbers"),
        ({"a": torch.ones(2, 4)}, {"format": "palate.embedding", "version": "1", "answers": "-1"}, "answers"),
    ],
)
def test_files_that_are_no_embedding_are_named(tensors, metadata, said: str, tmp_path: Path) -> None:
    save_file(tensors, tmp_path / "odd.safetensors", metadata)
    with pytest.raises(FileFormatError, match=said):
        load_embedding(tmp_path / "odd.safetensors")


def test_pickles_cut_files_and_no_files_are_named(tmp_path: Path) -> None:
    torch.save({"string_to_param": {"*": torch.ones(2, 4)}}, tmp_path / "a.pt")
    whole = save_embedding(SD15, tmp_path / "maras-taste").read_bytes()
    (tmp_path / "b.safetensors").write_bytes(whole[:-8])
    for name, said in (("a.pt", "pickle"), ("b.safetensors", "cut off"), ("c.safetensors", "no such file")):
        with pytest.raises(FileFormatError, match=said):
            load_embedding(tmp_path / name)
