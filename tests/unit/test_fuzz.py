"""Every reader of other people's files ends in what it should be or in a named error; few files here, many by
`tests/benchmarks/fuzz.py`."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

fuzz = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "fuzz.py")))
NAMES = (
    "taste",
    "taste in a picture",
    "user",
    "PPD",
    "embedding",
    "LoRA",
    "aesthetic gradient",
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


@pytest.mark.parametrize("name", [name for name in NAMES[:6] if "picture" not in name])
def test_hostile_files_end_in_named_errors(formats, name, tmp_path):
    one = formats[name]
    file = tmp_path / f"hostile{one.ending}"
    refused = 0
    for which, data in fuzz.hostile(one.seeds[0]):
        file.write_bytes(data)
        refused += not fuzz.tried(one, file, which)
    assert refused >= 15
    assert not Path("/tmp/palate-was-here").exists()


def test_a_reader_that_breaks_is_caught(tmp_path):
    def broken(file):
        raise RuntimeError("not a named error")

    with pytest.raises(AssertionError, match="RuntimeError: not a named error"):
        fuzz.run(fuzz.Format("broken", ".x", (b"seed",), broken), 1, 0, tmp_path)
