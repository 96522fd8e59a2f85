"""Taste files: every bit back, and a named refusal of whatever isn't one."""

from __future__ import annotations

import json
import os
import pickle
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from palate.adapters.errors import EncoderMismatchError, FileFormatError, ShapeError, StoreError
from palate.adapters.files import container, describe, load_taste, save_taste
from palate.adapters.taste import BradleyTerry, Taste
from palate.adapters.untrusted import unpickled
from safetensors.torch import save_file

HEADER = {
    "format": "palate.taste",
    "version": "1",
    "encoder": "e" * 64,
    "encoder_name": "ViT-L-14",
    "answers": "12",
    "prior_variance": "2.5",
}


@dataclass
class NamedEncoder:
    identity: str
    name: str


def taste(**changes):
    generator = torch.Generator().manual_seed(0)
    values = {
        "weights": torch.randn(8, generator=generator),
        "encoder": "e" * 64,
        "encoder_name": "ViT-L-14",
        "person": "mara",
        "answers": 12,
        "base": "sd15",
        "prior_variance": 1 / 3,
        "gain": torch.randn(8, 3, generator=generator) / 10,
        "text_weights": torch.randn(5, generator=generator),
        "created": "2026-01-31T12:00:00+00:00",
    }
    return Taste(**(values | changes))


def written(tmp_path, metadata=None, **tensors):
    path = tmp_path / "taste.safetensors"
    save_file({"weights": torch.ones(8)} | tensors, path, metadata=HEADER | (metadata or {}))
    return path


def test_every_bit_comes_back(tmp_path):
    before = taste()
    path = save_taste(before, tmp_path / "new folder" / "mara.safetensors")
    after = load_taste(path)
    for name in ("weights", "gain", "text_weights"):
        assert torch.equal(getattr(before, name), getattr(after, name))
    for name in ("encoder", "encoder_name", "person", "answers", "base", "prior_variance", "created"):
        assert getattr(before, name) == getattr(after, name)
    assert after.chosen is None
    again = save_taste(after, tmp_path / "again.safetensors")
    assert again.read_bytes() == path.read_bytes()


def test_a_fitted_taste_keeps_its_posterior(tmp_path):
    x = np.random.default_rng(0).standard_normal((2, 5, 8))
    model = BradleyTerry(2.0).fit(x[0], x[1])
    weights = torch.from_numpy(model.weights_.astype(np.float32))
    fitted = taste(weights=weights, gain=None, prior_variance=2.0, fitted=model)
    loaded = load_taste(save_taste(fitted, tmp_path / "a.safetensors"))
    np.testing.assert_allclose(loaded.model.utility_variance(x[0]), model.utility_variance(x[0]), rtol=1e-5)
    np.testing.assert_allclose(loaded.model.utility(x[0]), model.utility(x[0]), rtol=1e-5)


@pytest.mark.parametrize("count", [70, 400])
def test_a_file_keeps_the_directions_that_were_learned_most(tmp_path, count, monkeypatch):
    """Fewer directions in the file: never surer than the fit, whichever way its posterior is held."""
    monkeypatch.setattr("palate.adapters.files.taste_file.DIRECTIONS", 20)
    x = np.random.default_rng(0).standard_normal((2, count, 90))
    model = BradleyTerry().fit(x[0], x[1])
    fitted = taste(weights=torch.from_numpy(model.weights_).float(), gain=None, prior_variance=1.0, fitted=model)
    loaded = load_taste(save_taste(fitted, tmp_path / "a.safetensors"))
    assert loaded.gain.shape == (90, 20)
    ratio = loaded.model.utility_variance(x[0]) / model.utility_variance(x[0])
    assert (ratio > 1 - 1e-5).all()


@settings(deadline=None, max_examples=25)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_name_survives(tmp_path_factory, person):
    path = tmp_path_factory.mktemp("tastes") / "a.safetensors"
    assert load_taste(save_taste(taste(person=person), path)).person == person


def test_describe_reads_what_the_file_says(tmp_path):
    path = save_taste(taste(), tmp_path / "a.safetensors")
    said = describe(path)
    assert (said.person, said.answers, said.width, said.version, said.base) == ("mara", 12, 8, 1, "sd15")
    assert said.size == path.stat().st_size


def test_all_metadata_is_text(tmp_path):
    data = save_taste(taste(), tmp_path / "a.safetensors").read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert all(isinstance(value, str) for value in header["__metadata__"].values())
    assert header["__metadata__"]["format"] == "palate.taste"


def test_another_encoder_is_refused_with_both_names(tmp_path):
    path = save_taste(taste(), tmp_path / "a.safetensors")
    with pytest.raises(EncoderMismatchError, match=r"'ViT-L-14' \(eeeeeeeeeeee\).*'bigG' \(ffffffffffff\)"):
        load_taste(path, NamedEncoder("f" * 64, "bigG"))
    with pytest.raises(EncoderMismatchError, match=r"'ViT-L-14'.*the one in use is ffffffffffff"):
        load_taste(path, "f" * 64)
    assert load_taste(path, "e" * 64).answers == 12
    assert load_taste(path, NamedEncoder("e" * 64, "renamed")).answers == 12


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"format": "palate.user"}, "its format is 'palate.user'; expected 'palate.taste'"),
        ({"version": "2"}, "format 2; expected 1. Update Palate"),
        ({"version": "one"}, "'version' is 'one'"),
        ({"encoder": ""}, "which encoder"),
        ({"answers": "-1"}, "'answers' is '-1'"),
        ({"prior_variance": "nan"}, "'prior_variance' is 'nan'"),
        ({"prior_variance": "0"}, "'prior_variance' is 0"),
        ({"person": "x" * 5000}, "'person' has 5,000 characters"),
    ],
)
def test_metadata_that_makes_no_sense_is_refused(tmp_path, metadata, message):
    with pytest.raises(FileFormatError, match=message):
        describe(written(tmp_path, metadata))


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"weights": torch.ones(2, 4)}, r"'weights' have shape \[2, 4\]; expected \(D,\)"),
        ({"weights": torch.ones(0)}, "at least one number"),
        ({"weights": torch.full((8,), float("nan"))}, "'weights' hold NaN"),
        ({"weights": torch.ones(8, dtype=torch.float16)}, "'weights' are float16"),
        ({"gain": torch.ones(7, 2)}, r"'gain' has shape \(7, 2\); expected \(8, r\)"),
        ({"gain": torch.full((8, 2), float("inf"))}, "'gain' hold NaN or infinity"),
        ({"text_weights": torch.ones(2, 2)}, "'text_weights' are float32 of shape"),
    ],
)
def test_wrong_tensors_are_named(tmp_path, tensors, message):
    with pytest.raises(FileFormatError, match=message):
        load_taste(written(tmp_path, **tensors))


def test_a_file_without_weights_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"other": torch.ones(8)}, path, metadata=HEADER)
    with pytest.raises(FileFormatError, match="'weights' have shape None"):
        load_taste(path)


def test_a_lora_is_no_taste(tmp_path):
    path = tmp_path / "lora.safetensors"
    save_file({"lora_up.weight": torch.ones(8)}, path)
    with pytest.raises(FileFormatError, match="its format is none"):
        load_taste(path)


class Evil:
    ran = False

    def __reduce__(self):
        return (setattr, (Evil, "ran", True))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no safetensors file"),
        (b"PK\x03\x04" + b"0" * 50, "a pickle"),
        (b"not a taste at all", "no safetensors file"),
        ((1 << 40).to_bytes(8, "little") + b"{" + b" " * 50, "a header of 1,099,511,627,776 bytes"),
        ((2 << 20).to_bytes(8, "little") + b"{" + b" " * (2 << 20), "a header of 2,097,152 bytes"),
        ((2).to_bytes(8, "little") + b"{]", "its header is broken"),
        ((4000).to_bytes(8, "little") + b'{"a":' * 800, "its header is broken"),
        ((25).to_bytes(8, "little") + b'{"__metadata__":{"a": 1}}', "metadata is not text"),
    ],
)
def test_what_is_no_safetensors_file_is_refused(tmp_path, data, message):
    path = tmp_path / "a.safetensors"
    path.write_bytes(data)
    with pytest.raises(FileFormatError, match=message):
        load_taste(path)


def test_a_pickle_is_refused_and_not_run(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(FileFormatError, match="a pickle"):
        load_taste(path)
    assert not Evil.ran


def test_every_cut_is_refused(tmp_path):
    data = save_taste(taste(), tmp_path / "a.safetensors").read_bytes()
    path = tmp_path / "cut.safetensors"
    for length in range(0, len(data), 61):
        path.write_bytes(data[:length])
        with pytest.raises(FileFormatError):
            load_taste(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(FileFormatError, match=r"'none.safetensors': there is no such file"):
        load_taste(tmp_path / "none.safetensors")
    with pytest.raises(FileFormatError, match="there is no such file"):
        load_taste(tmp_path)


def test_a_file_that_is_too_large_is_no_reason_of_itself(tmp_path, monkeypatch):
    """Whoever walks from an error to its cause would never end."""
    (tmp_path / "large.safetensors").write_bytes(bytes(100))
    monkeypatch.setattr(container, "MAX_FILE", 10)
    for read in (container.read_bytes, lambda path, what: container.read_header(path, what, 10)):
        with pytest.raises(FileFormatError, match="100 bytes") as found:
            read(tmp_path / "large.safetensors", "a taste")
        assert found.value.__cause__ is None


def test_nan_is_not_saved(tmp_path):
    with pytest.raises(ShapeError, match="its weights hold NaN"):
        save_taste(taste(weights=torch.full((8,), float("nan"))), tmp_path / "a.safetensors")
    assert os.listdir(tmp_path) == []


def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = save_taste(taste(), tmp_path / "a.safetensors")
    before = path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("palate.adapters.files.writing.os.fsync", full)
    with pytest.raises(StoreError, match="No space left on device"):
        save_taste(replace(taste(), answers=99), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.safetensors"]


def test_junk_with_the_name_of_weights_is_called_so(tmp_path):
    """torch's own error is a number there."""
    (tmp_path / "x.pt").write_bytes(b"junk" * 100)
    with pytest.raises(FileFormatError, match=r"Cannot read 'x.pt': it is no file of torch.save; expected weights"):
        unpickled(tmp_path / "x.pt", "weights")
