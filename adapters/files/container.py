"""Reading a safetensors file of unknown origin with care.

Nothing here can execute what a file holds: lengths and a JSON header, then plain numbers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import FileFormatError
from ..untrusted import require_size

MAX_HEADER = 1 << 20  # bytes; a taste's is below 10 KB
MAX_FILE = 1 << 28  # bytes; a taste's is below 1 MB
MAX_TEXT = 4_000  # characters of one entry of the metadata


def read_bytes(path: Path, what: str) -> bytes:
    """Return a whole file of at most `MAX_FILE` bytes; `what` it should be is for messages.

    Raises:
        FileFormatError: there is none, it is larger, or the system can't read it.
    """
    try:
        require_size(path, what, MAX_FILE)
        return path.read_bytes()
    except FileFormatError:
        raise
    except (OSError, ValueError) as error:
        raise _unreadable(path, what, error) from error


def _unreadable(path: Path, what: str, error: OSError | ValueError) -> FileFormatError:
    reason = getattr(error, "strerror", None) or error
    return FileFormatError(f"Cannot read {path.name[:200]!r}: {reason}; expected {what}.")


def read_metadata(
    name: str, data: bytes, what: str, most_header: int = MAX_HEADER, most_text: int = MAX_TEXT
) -> dict[str, str]:
    """Return the text that a safetensors file carries, after checking that it is one.

    Args:
        name: of the file, for messages.
        data: its bytes.
        what: it should be, for messages.
        most_header: bytes of the header. most_text: characters of one entry.

    Raises:
        FileFormatError: not safetensors, a longer header or entry, or metadata that isn't text.
    """
    if len(data) < 9 or data[8:9] != b"{":
        kind = "a pickle" if data[:2] in (b"PK", b"\x80\x02", b"\x80\x04", b"\x80\x05") else "no safetensors file"
        raise FileFormatError(f"Cannot read {name!r}: it is {kind}; expected {what}. Nothing in it was run.")
    length = int.from_bytes(data[:8], "little")
    if length > most_header or length > len(data) - 8:
        found = f"a header of {length:,} bytes in a file of {len(data):,}"
        raise FileFormatError(f"Cannot read {name!r}: {found}; expected {what}. It is cut off or something else.")
    try:
        header = json.loads(data[8 : 8 + length])
        metadata = header.get("__metadata__", {})
    except (ValueError, RecursionError, AttributeError) as error:
        raise FileFormatError(f"Cannot read {name!r}: its header is broken; expected {what}.") from error
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise FileFormatError(f"Cannot read {name!r}: its metadata is not text; expected {what}.")
    for key, value in metadata.items():
        if len(value) > most_text:
            raise FileFormatError(
                f"Cannot read {name!r}: its {key[:40]!r} has {len(value):,} characters; expected at most {most_text:,}."
            )
    return metadata


@dataclass(frozen=True)
class Header:
    """What stands before a safetensors file's numbers.

    Attributes:
        metadata: Text by name.
        shapes: Of each tensor, by name. dtypes: As safetensors names them, such as "F16".
        size: Of the whole file in bytes.
    """

    metadata: dict[str, str]
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]
    size: int


def read_header(path: Path, what: str, most: int = MAX_FILE) -> Header:
    """Return what a safetensors file says of itself, of any size up to `most` bytes, without reading its numbers.

    Raises:
        FileFormatError: as `read_bytes` and `read_metadata`, or a tensor without type and shape.
    """
    try:
        size = require_size(path, what, most)
        with path.open("rb") as file:
            start = file.read(8)
            data = start + file.read(min(int.from_bytes(start, "little"), MAX_HEADER))
    except FileFormatError:
        raise
    except (OSError, ValueError) as error:
        raise _unreadable(path, what, error) from error
    return header_of(path.name, data, what, size)


def header_of(name: str, data: bytes, what: str, size: int | None = None) -> Header:
    """Return the header of a file's bytes, or of its first bytes and its size.

    Raises:
        FileFormatError: as `read_metadata`, or a tensor without type and shape.
    """
    metadata = read_metadata(name, data, what)
    header: dict[str, Any] = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    shapes, dtypes = {}, {}
    for key, entry in header.items():
        if key == "__metadata__":
            continue
        shape = entry.get("shape") if isinstance(entry, dict) else None
        if not isinstance(shape, list) or not all(type(side) is int and 0 <= side < 1 << 31 for side in shape):
            raise FileFormatError(
                f"Cannot read {name!r}: its {key[:60]!r} has no shape; expected {what}. It is damaged."
            )
        shapes[key], dtypes[key] = tuple(shape), str(entry.get("dtype"))
    return Header(metadata, shapes, dtypes, len(data) if size is None else size)


def require_format(name: str, metadata: Mapping[str, str], expected: str, version: int, what: str) -> int:
    """Return a file's version, if it is of this format and not newer than `version`.

    Raises:
        FileFormatError: another format, or from a newer Palate.
    """
    if metadata.get("format") != expected:
        found = repr(metadata["format"][:60]) if "format" in metadata else "none"
        raise FileFormatError(f"Cannot read {name!r}: its format is {found}; expected {expected!r}: {what}.")
    found_version = int(read_number(name, metadata, "version", int, lowest=1))
    if found_version > version:
        raise FileFormatError(f"Cannot read {name!r}: format {found_version}; expected {version}. Update Palate.")
    return found_version


def read_number(
    name: str, metadata: Mapping[str, str], key: str, kind: type[int] | type[float], lowest: float
) -> float:
    """Return a number from a file's text.

    Raises:
        FileFormatError: it is none, or below `lowest`.
    """
    text = metadata.get(key, "")
    try:
        value = kind(text) if len(text) <= 40 else math.nan
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= lowest):
        raise FileFormatError(f"Cannot read {name!r}: its {key!r} is {text[:40]!r}; expected a number from {lowest:g}.")
    return value


def read_tensors(name: str, data: bytes, what: str) -> dict[str, Tensor]:
    """Return the tensors of a file whose metadata was read before, on the CPU and as they are kept.

    Raises:
        FileFormatError: it is cut off or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return dict(load(data))
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise FileFormatError(f"Cannot read {name!r}: {error}; expected {what}. It is cut off or damaged.") from error
