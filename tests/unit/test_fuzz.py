"""Every reader of other people's files ends in what it should be or in a named error, within its memory; few mutated
files here, many by `tests/benchmarks/fuzz.py`."""

from dataclasses import replace
from pathlib import Path

import fuzz
import pytest

NAMES = (
    "taste",
    "taste in a picture",
    "user",
    "PPD",
    "embedding",
    "LoRA",
    "IP-Adapter",
    "CLIP",
    "checkpoint",
    "aesthetic gradient",
    "aesthetic score",
    "pickled IP-Adapter",
    "pickled CLIP",
    "JSON lines",
    "JSON",
    "CSV",
    "parquet",
    "picture",
    "picture's own words",
)


@pytest.fixture(scope="module")
def formats(tmp_path_factory):
    pytest.importorskip("pyarrow")
    return {one.name: one for one in fuzz.formats(tmp_path_factory.mktemp("good"))}


def test_every_format_is_there(formats):
    assert tuple(formats) == NAMES


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore")
def test_mutated_files_end_in_named_errors(formats, name, tmp_path):
    read = fuzz.run(formats[name], 60, seed=1, folder=tmp_path)
    assert 0 <= read <= 60


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore")
def test_files_made_by_hand_end_in_named_errors_within_their_memory(formats, name, tmp_path):
    count, _ = fuzz.by_hand(formats[name], tmp_path)
    assert count >= 4


def test_a_reader_that_takes_too_much_is_caught(tmp_path):
    def greedy(file):
        bytearray(file.stat().st_size << 20)

    one = fuzz.Format("greedy", ".x", (b"",), greedy, lambda: [("a hundred bytes", bytes(100))])
    if not fuzz.Height._said("VmHWM"):
        pytest.skip("this system doesn't say how much memory a process took")
    with pytest.raises(AssertionError, match=r"greedy, a hundred bytes: \d+ MB, allowed 64"):
        fuzz.by_hand(one, tmp_path)


def test_a_reader_that_runs_a_pickle_is_caught(formats, tmp_path):
    import pickle

    one = replace(formats["aesthetic gradient"], read=lambda file: pickle.loads(file.read_bytes()), seeds=(b"N.",))
    try:
        with pytest.raises(AssertionError, match="code, b'': it was run"):
            fuzz.by_hand(one, tmp_path)
    finally:
        Path(fuzz.hostile.MARK).unlink(missing_ok=True)


def test_a_reader_that_breaks_is_caught(tmp_path):
    def broken(file):
        raise RuntimeError("not a named error")

    with pytest.raises(AssertionError, match="RuntimeError: not a named error"):
        fuzz.run(fuzz.Format("broken", ".x", (b"seed",), broken), 1, 0, tmp_path)
