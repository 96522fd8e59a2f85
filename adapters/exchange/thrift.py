"""The part of Thrift's compact protocol that the ends and page headers of parquet files are written in.

Source: apache/thrift, doc/specs/thrift-compact-protocol.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import FileFormatError

__all__ = ["BINARY", "I32", "I64", "MOST_DEPTH", "Cursor", "damaged"]

I32, I64, BINARY, LIST, STRUCT = 5, 6, 8, 9, 12  # kinds of fields
YES, NO, BYTE, I16, DOUBLE, SET = 1, 2, 3, 4, 7, 10
MOST_ENTRIES = 1_000_000  # of one list, as pyarrow has it
MOST_DEPTH = 32


def damaged(why: str) -> FileFormatError:
    """Return the error of a file that isn't what it says."""
    return FileFormatError(f"it is damaged or no parquet ({why})")


class Cursor:
    """Reads Thrift's compact protocol; IndexError where the bytes end before what they say does."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0

    def struct(self, wanted: Mapping[int, Any], depth: int = 0) -> dict[int, Any]:
        """Return the fields of a struct that are wanted, by their numbers; each may be there once.

        Args:
            wanted: By a field's number its kind; of a struct its own fields, of a list a tuple of one of these.
            depth: In how many structs and lists this one is.

        Raises:
            FileFormatError: what is there is not of that kind, or has no end.
        """
        found: dict[int, Any] = {}
        field = 0
        while kind := (head := self._byte()) & 15:
            field = field + (head >> 4) if head >> 4 else self._signed()
            if field not in wanted:
                self._skip(kind, depth)
            elif field in found:
                raise damaged("a field is there twice")
            else:
                found[field] = self._value(kind, wanted[field], depth)
        return found

    def _value(self, kind: int, wanted: Any, depth: int) -> Any:
        nested = STRUCT if isinstance(wanted, Mapping) else LIST if isinstance(wanted, tuple) else wanted
        if kind != nested:
            raise damaged(f"a field is of kind {kind}; expected {nested}")
        if kind == STRUCT:
            return self.struct(wanted, depth + 1)
        if kind == BINARY:
            return self._bytes(self._unsigned())
        if kind == LIST:
            inner, count = self._list()
            return [self._value(inner, wanted[0], depth + 1) for _ in range(count)]
        number = self._signed()
        if kind == I32 and not -(2**31) <= number < 2**31:
            raise damaged("a number has more bits than it may")
        return number

    def _skip(self, kind: int, depth: int, in_list: bool = False) -> None:
        if depth > MOST_DEPTH:
            raise damaged("nested without end")
        if kind in (YES, NO):  # in a struct the kind itself says which
            self.place += in_list
        elif kind == BYTE:
            self.place += 1
        elif kind in (I16, I32, I64):
            self._unsigned()
        elif kind == DOUBLE:
            self.place += 8
        elif kind == BINARY:
            self._bytes(self._unsigned())
        elif kind in (LIST, SET):
            inner, count = self._list()
            for _ in range(count):
                self._skip(inner, depth + 1, in_list=True)
        elif kind == STRUCT:
            self.struct({}, depth + 1)
        else:
            raise damaged(f"a field is of kind {kind}")

    def _list(self) -> tuple[int, int]:
        head = self._byte()
        count = head >> 4 if head >> 4 < 15 else self._unsigned()
        if count > MOST_ENTRIES:
            raise damaged("a list of it has no end")
        return head & 15, count

    def _byte(self) -> int:
        self.place += 1
        return self.data[self.place - 1]

    def _bytes(self, count: int) -> bytes:
        self.place += count
        if self.place > len(self.data):
            raise IndexError
        return self.data[self.place - count : self.place]

    def _unsigned(self) -> int:
        number = 0
        for shift in range(0, 64, 7):
            byte = self._byte()
            number |= (byte & 127) << shift
            if byte < 128:
                return number
        raise damaged("a number has no end")

    def _signed(self) -> int:
        number = self._unsigned()
        return (number >> 1) ^ -(number & 1)
