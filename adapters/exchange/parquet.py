"""Rows of a parquet file such as Pick-a-Pic's, few at a time, within what its size allows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import FileFormatError
from .parquet_claims import read_claims

__all__ = ["parquet_rows"]

FEWEST, MOST = 2, 1000  # rows at once: each may hold pictures of 64 MB, and a repeated one takes nothing in the file
_CELL = 64  # bytes that Python takes for a small one


def parquet_rows(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield where each row is and its cells by their columns' names; {"broken": error} where it can't be read.

    Raises:
        FileFormatError: pyarrow is not installed.
    """
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise FileFormatError(
            f"Cannot read {file.name}: pyarrow is not installed here. `python install.py train` brings it."
        ) from error
    number = 0
    try:
        with file.open("rb") as source:
            claims = read_claims(source)
        rows = min(max(FEWEST, claims.room // max(claims.at_once, 1)), MOST)
        # Not pre_buffer: it would keep all groups of rows.
        with ParquetFile(file, read_dictionary=list(claims.in_lists), pre_buffer=False) as table:
            for batch in table.iter_batches(batch_size=rows, use_threads=False):
                if sum(map(_takes, batch.columns)) > claims.room:
                    raise FileFormatError(f"its next rows take more than {claims.room:,} bytes")
                for row in batch.to_pylist():
                    number += 1
                    yield f"row {number}", row
    except FileFormatError as error:
        yield (f"after row {number}" if number else "all"), {"broken": error}
    except (ArrowException, OSError, ValueError) as error:
        yield f"after row {number}", {"broken": FileFormatError(f"it is damaged or no parquet ({error})")}


def _takes(array: Any) -> int:
    """Bytes that an array takes in Python: an entry of a dictionary as often as it is named."""
    from pyarrow import compute, types

    if types.is_struct(array.type):
        return sum(map(_takes, array.flatten()))
    if types.is_nested(array.type):
        return _takes(array.flatten())
    if not types.is_dictionary(array.type) or types.is_primitive(array.type.value_type):
        return _CELL * len(array) + int(array.nbytes)
    lengths = compute.binary_length(array.dictionary).take(array.indices)
    return _CELL * len(array) + (compute.sum(lengths).as_py() or 0)
