"""Parquet files: what honest ones hold comes as pyarrow reads it, and what lies takes no memory. All that lies is read
within its memory by `test_fuzz.py`."""

import re

import hostile_parquet as made
import pytest
from palate.adapters.exchange import read_source
from palate.adapters.exchange.parquet import parquet_rows

pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")


def test_parquet_with_lists_of_pictures_is_read_as_pyarrow_reads_it(tmp_path):
    pictures = [{"bytes": b"png %d" % number, "path": None} for number in (1, 2)]
    row = {"images": pictures, "ranking": [1, 2], "vector": [0.5] * 64, "more": {"words": ["a", "b", None]}}
    parquet.write_table(pyarrow.Table.from_pylist([row] * 50), tmp_path / "a.parquet")
    assert [found for _, found in parquet_rows(tmp_path / "a.parquet")] == [row] * 50


@pytest.mark.parametrize(
    ("which", "why"),
    [
        ("a page of 512 MB", r"take 536,870,916 bytes at once, unpacked, and the file has \d"),
        ("a list of 20 million", "take 320,000,047 bytes at once"),
        ("a list of one text of 1 MB, 4,000 times", "its next rows take more than 67,108,864 bytes"),
        ("a billion lengths", "packed by differences of texts"),
        ("more columns than names", "its columns are too many, or not those that it names"),
    ],
)
def test_a_parquet_file_that_lies_is_refused_before_it_is_unpacked(tmp_path, which, why):
    (tmp_path / "a.parquet").write_bytes(dict([*made.pages(), *made.ends()])[which])
    (lost,) = read_source(tmp_path / "a.parquet")
    assert re.search(why, lost.why)
