"""What a parquet file says that its pages unpack to, read before anything is unpacked.

The sizes at the end of such a file are only what its writer says, and pyarrow takes what a page takes: 61 kB of zstd
unpacked to 3.8 GB. Each page also has a header of its own, and no library unpacks more than that says. The headers are
Thrift's compact protocol (parquet-format, `parquet.thrift`), of which this reads the few fields that count.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from ..errors import FileFormatError
from .foreign import MAX_PICTURE
from .thrift import BINARY, I32, I64, MOST_DEPTH, Cursor, damaged

__all__ = ["Claims", "read_claims"]

MOST_PACKED = 100  # bytes for one; pictures don't shrink at all, prompts to a tenth
MOST_FOOTER = 1 << 24  # bytes
MOST_COLUMNS = 100_000  # in all groups of rows together; pyarrow takes half a kilobyte for each
MAGIC = b"PAR1"

REPEATED, BYTE_ARRAY, DICTIONARY_PAGE = 2, 6, 2
_LEVELS = 4  # bytes that a value's place takes in a page of a plain column
_ENTRY = 16  # of an entry of a dictionary or of a list of texts
_NUMBER = 8  # of an entry of a list of numbers
# Plain, by dictionary, runs, differences of numbers, split floats. With differences of texts a page of 40 bytes says
# that it has two billion lengths, and pyarrow believes it; data sets of pictures aren't written so.
_ENCODINGS = {0, 2, 3, 5, 8, 9}

# Fields that count, as `thrift.py` takes them.
_SCHEMA = {1: I32, 2: I32, 3: I32, 4: BINARY, 5: I32}  # type, length of a value, repetition, name, children
_CHUNK = {3: {5: I64, 7: I64, 9: I64, 11: I64}}  # values, bytes, where the data and the dictionary start
_FOOTER = {2: (_SCHEMA,), 4: ({1: (_CHUNK,)},)}
_PAGE = {1: I32, 2: I32, 3: I32, 5: {1: I32, 2: I32}, 7: {1: I32, 2: I32}, 8: {1: I32, 4: I32}}
_NUMBER_OF_VALUES, _ENCODING = 1, {5: 2, 7: 2, 8: 4}


@dataclass(frozen=True)
class Claims:
    """What reading a table may take.

    Attributes:
        room: Bytes that the cells of the rows at hand may take: a picture's most, or four times the file.
        at_once: Bytes that two rows take while they are unpacked, at most; never more than `room`.
        in_lists: Paths of the columns of texts or bytes inside lists. One row of theirs may repeat one entry without
            end, so they are read by dictionary (pyarrow's `read_dictionary`), which repeats nothing.
    """

    room: int
    at_once: int
    in_lists: tuple[str, ...]


def read_claims(source: BinaryIO) -> Claims:
    """Return what reading a table may take; refuse one that unpacks to far more than pictures or prompts do.

    Args:
        source: The file, opened for reading bytes; where it stands afterwards is not said.

    Raises:
        FileFormatError: its pages say so, or it is damaged; the text ends the sentence "it can't be read: ...".
    """
    size = source.seek(0, os.SEEK_END)
    footer = _footer(source, size)
    leaves = list(_leaves(iter(footer.get(2, ())), "", False, 0))
    groups = [group.get(1, []) for group in footer.get(4, ())]
    if sum(map(len, groups)) > MOST_COLUMNS or any(len(columns) != len(leaves) for columns in groups):
        raise damaged("its columns are too many, or not those that it names")
    unpacked = most = 0
    room = max(MAX_PICTURE, 4 * size)
    for columns in groups:
        pages = [list(_pages(source, column.get(3, {}), size)) for column in columns]
        unpacked += sum(page.unpacked for some in pages for page in some)
        most = max(most, sum(leaf.takes(some) for leaf, some in zip(leaves, pages, strict=True)))
        if most > room:
            raise FileFormatError(
                f"its pages take {most:,} bytes at once, unpacked, and the file has {size:,}; expected at most {room:,}"
            )
    if unpacked > max(MAX_PICTURE, MOST_PACKED * size):
        raise FileFormatError(
            f"it unpacks to {unpacked:,} bytes from {size:,}; expected at most {MOST_PACKED} times as many"
        )
    return Claims(room, most, tuple(leaf.path for leaf in leaves if leaf.repeated and leaf.kind == BYTE_ARRAY))


@dataclass(frozen=True)
class _Page:
    unpacked: int
    values: int
    dictionary: bool


@dataclass(frozen=True)
class _Leaf:
    """A column as it is kept: of a row's cells, or of the entries of lists in them."""

    path: str
    kind: int
    width: int
    repeated: bool

    def takes(self, pages: list[_Page]) -> int:
        """Bytes that two rows may take: of a plain column the largest page, of lists all, since a row may be all."""
        if self.repeated:
            entry = _ENTRY if self.kind == BYTE_ARRAY else _NUMBER + self.width
            return sum(page.unpacked + (_ENTRY if page.dictionary else entry) * page.values for page in pages)
        sizes = [page.unpacked + (_ENTRY if page.dictionary else _LEVELS) * page.values for page in pages]
        return max(sizes, default=0)


def _footer(source: BinaryIO, size: int) -> dict[int, Any]:
    source.seek(max(0, size - 8))
    end = source.read(8)
    length = int.from_bytes(end[:4], "little")
    if len(end) < 8 or end[4:] != MAGIC or not 0 < length <= min(size - 8, MOST_FOOTER):
        raise damaged("its last bytes don't say where its list of columns is")
    source.seek(size - 8 - length)
    try:
        return Cursor(source.read(length)).struct(_FOOTER)
    except IndexError:
        raise damaged("its list of columns is cut off") from None


def _leaves(nodes: Iterator[Mapping[int, Any]], above: str, repeated: bool, depth: int) -> Iterator[_Leaf]:
    """Columns in the order of the file: each node says how many of the following are below it."""
    node = next(nodes, None)
    if node is None or depth > MOST_DEPTH:
        raise damaged("its columns are fewer than it says, or nested without end")
    children, repeated = node.get(5, 0), repeated or node.get(3) == REPEATED
    name = node.get(4, b"").decode(errors="replace")
    path = name if depth < 2 else f"{above}.{name}"  # the root's name is no part of it
    if children == 0 and depth:
        yield _Leaf(path, node.get(1, 0), max(0, node.get(2, 0)), repeated)
    for _ in range(children):
        yield from _leaves(nodes, path, repeated, depth + 1)


def _pages(source: BinaryIO, chunk: Mapping[int, int], size: int) -> Iterator[_Page]:
    """What the pages of one column of one group of rows say."""
    places = [chunk[field] for field in (9, 11) if chunk.get(field, 0) > 0]
    length = chunk.get(7, -1)
    if not places or not 0 <= length <= size or chunk.get(5, -1) < 0:
        raise damaged("a column is not in the file")
    # Files of an old writer have 100 bytes more than they say, and pyarrow goes on reading there.
    at, end, past = min(places), min(places) + length, min(min(places) + length + 100, size)
    while at < past:
        try:
            page, at = _page(source, at)
        except FileFormatError:
            if at < end:
                raise
            return
        yield page


def _page(source: BinaryIO, at: int) -> tuple[_Page, int]:
    """The page at a place, and where the next one is."""
    most = 1 << 10
    while True:
        source.seek(at)
        cursor = Cursor(source.read(most))
        try:
            said = cursor.struct(_PAGE)
            break
        except IndexError:
            if most >= MOST_FOOTER or len(cursor.data) < most:
                raise damaged("a page is cut off") from None
            most <<= 4
    unpacked, packed = said.get(2, -1), said.get(3, -1)
    about = {field: said[field] for field in _ENCODING if field in said}
    values = [part.get(_NUMBER_OF_VALUES, 0) for part in about.values()]
    if min(unpacked, packed, *values, 0) < 0:
        raise damaged("a page has less than nothing")
    for field, part in about.items():
        if part.get(_ENCODING[field], 0) not in _ENCODINGS:
            raise FileFormatError("it is packed by differences of texts; expected what pyarrow writes by itself")
    return _Page(unpacked, max(values, default=0), said.get(1) == DICTIONARY_PAGE), at + cursor.place + packed
