"""Parquet files written byte by byte, since no library writes what lies: pages that unpack to gigabytes while the file
says a hundred bytes, lists without end, lists of columns that don't fit. `hostile.py` gives them to the reader.

Thrift's compact protocol as parquet-format's `parquet.thrift` uses it; fields are (number, kind, bytes).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

MB = 1 << 20
BYTE_ARRAY, REQUIRED, OPTIONAL, REPEATED, ZSTD, PLAIN, DELTA_LENGTHS, BY_DICTIONARY = 6, 0, 1, 2, 6, 0, 6, 8
Field = tuple[int, int, bytes]


class Column(NamedTuple):
    """The pages of one column, the dictionary first if it has one."""

    pages: list[bytes]
    path: tuple[bytes, ...] = (b"jpg_0",)
    values: int = 1
    dictionary: bool = False


def pages() -> Iterator[tuple[str, bytes]]:
    """Files whose end says a hundred bytes, each."""
    packed = text(512)
    yield "a page of 512 MB", parquet([Column([data_page(512 * MB, packed, 1)])], [flat()])
    one = zstd([struct.pack("<I", MB - 4), bytes(MB - 4)])
    yield "a page of 2 GB said of 1 MB", parquet([Column([data_page(2**31 - 1, one, 1)])], [flat()])
    yield "a page of less than nothing", parquet([Column([data_page(-1, one, 1)])], [flat()])
    yield "a list of 20 million", in_lists(b"a", 20_000_000)
    yield "a list of one text of 1 MB, 4,000 times", in_lists(b"a" * MB, 4_000)
    sixty, names = text(60), [b"c%d" % number for number in range(64)]
    many = [Column([data_page(60 * MB, sixty, 1)], (name,)) for name in names]
    yield "64 columns of 60 MB", parquet(many, [flat(name) for name in names])
    # Blocks of 2^20 differences of no bits each: a billion lengths in a few kilobytes.
    block = number(0) + bytes(4)
    lengths = varint(1 << 20) + varint(4) + varint(1 << 30) + number(0) + block * 1024
    yield "a billion lengths", parquet([Column([data_page(len(lengths), zstd([lengths]), 1, DELTA_LENGTHS)])], [flat()])


def ends() -> Iterator[tuple[str, bytes]]:
    """Files whose list of columns lies."""
    page = data_page(5, zstd([struct.pack("<I", 1) + b"a"]), 1)
    good = parquet([Column([page])], [flat()])
    yield "more columns than names", parquet([Column([page]), Column([page])], [flat()])
    yield "fewer columns than names", parquet([Column([page])], [flat(), flat(b"jpg_1")])
    deep = [node(b"x", (5, 5, number(1)))] * 100_000
    yield "columns nested 100,000 deep", parquet([Column([page])], deep)
    yield "a column that is elsewhere", parquet([Column([page])], [flat()], shift=2**40)
    yield "an end of 2 GB said", good[:-8] + struct.pack("<I", 2**31 - 1) + b"PAR1"
    endless = (2, 9, bytes([0xFC]) + varint(2**31 - 1))
    yield "a billion names said", closed(b"PAR1", record((1, 5, number(1)), endless))
    yield "a million names of nothing", closed(b"PAR1", record(listed(2, 12, [b"\0"] * 1_000_000)))
    nothing = listed(1, 12, [b"\0"] * 900_000)
    yield "a million columns of nothing", closed(b"PAR1", record(listed(4, 12, [record(nothing)])))
    yield "nested 100,000 deep", closed(b"PAR1", b"\x2c" * 100_000 + bytes(100_000))


def in_lists(word: bytes, count: int) -> bytes:
    """One row: a list of one text, by dictionary, again and again."""
    above, below = run(0, 1) + run(1, count - 1), run(2, count)
    levels = struct.pack("<I", len(above)) + above + struct.pack("<I", len(below)) + below
    content, entry = levels + b"\1" + run(0, count), struct.pack("<I", len(word)) + word
    kept = [dictionary_page(len(entry), zstd([entry]), 1)]
    kept.append(data_page(len(content), zstd([content]), count, BY_DICTIONARY))
    one = (5, 5, number(1))
    schema = [
        node(b"image_path", one, repetition=OPTIONAL),
        node(b"list", one, repetition=REPEATED),
        flat(b"element"),
    ]
    return parquet([Column(kept, (b"image_path", b"list", b"element"), count, True)], schema)


def text(megabytes: int) -> bytes:
    """A packed page of one text of zeros."""
    parts = [bytes(MB)] * (megabytes - 1)
    return zstd([struct.pack("<I", megabytes * MB - 4), *parts, bytes(MB - 4)])


def parquet(columns: list[Column], schema: list[bytes], shift: int = 0) -> bytes:
    """A file of one group of one row, whose end says that every column has a hundred bytes."""
    body, chunks = b"PAR1", []
    for column in columns:
        places = []
        for page in column.pages:
            places.append(len(body) + shift)
            body += page
        about = [(1, 5, number(BYTE_ARRAY)), listed(2, 5, [number(PLAIN), number(BY_DICTIONARY)])]
        about += [listed(3, 8, [varint(len(name)) + name for name in column.path]), (4, 5, number(ZSTD))]
        about += [(5, 6, number(column.values)), (6, 6, number(100)), (7, 6, number(sum(map(len, column.pages))))]
        about.append((9, 6, number(places[column.dictionary])))
        about += [(11, 6, number(places[0]))] if column.dictionary else []
        chunks.append(record((2, 6, number(4)), (3, 12, record(*about))))
    group = record(listed(1, 12, chunks), (2, 6, number(100)), (3, 6, number(1)))
    children = sum(1 for one in schema if one.startswith(b"\x15\x0c")) or 1  # plain columns, else one of lists
    root = record((4, 8, varint(6) + b"schema"), (5, 5, number(children)))
    named = listed(2, 12, [root, *schema])
    return closed(body, record((1, 5, number(1)), named, (3, 6, number(1)), listed(4, 12, [group])))


def closed(body: bytes, end: bytes) -> bytes:
    """A file of these pages and this end."""
    return body + end + struct.pack("<I", len(end)) + b"PAR1"


def flat(name: bytes = b"jpg_0") -> bytes:
    """The name of a column of bytes, one in every row."""
    return record((1, 5, number(BYTE_ARRAY)), (3, 5, number(REQUIRED)), (4, 8, varint(len(name)) + name))


def node(name: bytes, *more: Field, repetition: int = REQUIRED) -> bytes:
    """The name of what has others in it."""
    return record((3, 5, number(repetition)), (4, 8, varint(len(name)) + name), *more)


def data_page(unpacked: int, packed: bytes, values: int, encoding: int = PLAIN) -> bytes:
    """A page that says that it unpacks to so many bytes and values."""
    about = record((1, 5, number(values)), (2, 5, number(encoding)), (3, 5, number(3)), (4, 5, number(3)))
    return record((1, 5, number(0)), (2, 5, number(unpacked)), (3, 5, number(len(packed))), (5, 12, about)) + packed


def dictionary_page(unpacked: int, packed: bytes, values: int) -> bytes:
    """The same of a dictionary."""
    about = record((1, 5, number(values)), (2, 5, number(PLAIN)))
    return record((1, 5, number(2)), (2, 5, number(unpacked)), (3, 5, number(len(packed))), (7, 12, about)) + packed


def run(value: int, count: int) -> bytes:
    """The same small value so many times."""
    return varint(count << 1) + bytes([value])


def zstd(parts: Iterable[bytes]) -> bytes:
    """What these become, packed one after the other, so that a gigabyte is never held."""
    import pyarrow

    kept = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(kept, "zstd") as packed:
        for part in parts:
            packed.write(part)
    return bytes(kept.getvalue().to_pybytes())


def record(*fields: Field) -> bytes:
    """A struct of fields in their order."""
    kept, last = b"", 0
    for field, kind, content in fields:
        kept += bytes([(field - last) << 4 | kind]) + content
        last = field
    return kept + b"\0"


def listed(field: int, kind: int, items: list[bytes]) -> Field:
    """A field that is a list."""
    head = bytes([len(items) << 4 | kind]) if len(items) < 15 else bytes([0xF0 | kind]) + varint(len(items))
    return field, 9, head + b"".join(items)


def number(value: int) -> bytes:
    """A whole number with a sign."""
    return varint((value << 1) ^ (value >> 63))


def varint(value: int) -> bytes:
    """A whole number, seven bits a byte."""
    kept = bytearray()
    while value > 127:
        kept.append(value & 127 | 128)
        value >>= 7
    return bytes([*kept, value])
