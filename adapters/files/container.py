"""Reading a safetensors file of unknown origin with care, and writing one in a single step.

Nothing here can execute what a file holds: lengths and a JSON header, then plain numbers.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import FileFormatError, StoreError
from ..untrusted import require_size

MAX_HEADER = 1 << 20  # bytes; a taste's is below 10 KB
MAX_FILE = 1 << 28  # bytes; a taste's is below 1 MB
MAX_TEXT = 4_000  # characters of one entry of the metadata


def read_bytes(path: Path, what: str) -> bytes:
    """Return a whole file of at most `MAX_FILE` bytes."""
    try:
        require_size(path, what, MAX_FILE)
        return path.read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, FileFormatError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise FileFormatError(f"Cannot read {path.name[:200]!r}: {reason}; expected {what}.") from error


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
    except (OSError, ValueError) as error:
        if isinstance(error, FileFormatError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise FileFormatError(f"Cannot read {path.name[:200]!r}: {reason}; expected {what}.") from error
    return header_of(path.name, data, what, size)


def header_of(name: str, data: bytes, what: str, size: int | None = None) -> Header:
    """Return the header of a file's bytes, or of its first bytes and its size."""
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
    """Return the tensors of a file whose metadata was read before."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return dict(load(data))
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise FileFormatError(f"Cannot read {name!r}: {error}; expected {what}. It is cut off or damaged.") from error


def write_atomically(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Path:
    """Write a safetensors file that is either whole or not there; one of the same name is replaced at the end.

    Args:
        path: of the file; folders are made.
        tensors: float16 or float32, on the CPU, by name.
        metadata: text by name.

    Raises:
        StoreError: the folder can't be written or the disk is full; an older file of this name is untouched.
    """
    return write_bytes_atomically(path, _encoded_parts(tensors, metadata))


def write_bytes_atomically(path: Path, data: bytes | Iterable[bytes], replace: bool = True) -> Path:
    """Write a file of any kind in the same way; a large one in parts that are made one after the other.

    Args:
        path: Of the file; folders are made.
        data: All of it, or its parts.
        replace: False leaves a file of this name as it is, also one that another process puts there this moment.

    Raises:
        FileExistsError: not `replace`, and the name is taken.
        StoreError: as `write_atomically`.
    """
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".palate-", suffix=".tmp", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            for part in [data] if isinstance(data, bytes) else data:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        (os.replace if replace else _take_name)(temporary, path)
    except (OSError, ValueError) as error:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        if isinstance(error, FileExistsError) and not replace:
            raise
        reason = getattr(error, "strerror", None) or error
        raise StoreError(
            f"Cannot save {path.name[:200]!r} in {path.parent}: {reason}; expected a folder with room that can be "
            "written. Choose another folder or name."
        ) from error
    return path


def _take_name(temporary: str, path: Path) -> None:
    """Give a file its name if nobody has it; of several processes that try, the system lets one.

    Where the file system has no links (FAT), the name is first held by an empty file.
    """
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except (OSError, NotImplementedError, AttributeError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        os.replace(temporary, path)
    else:
        os.unlink(temporary)


def encoded(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Return the file's bytes; safetensors' own writer shuffles the metadata, so that one taste gave many files."""
    return b"".join(_encoded_parts(tensors, metadata))


def _encoded_parts(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Iterator[bytes]:
    """The header, then each tensor's numbers."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    length = 0
    for name, tensor in tensors.items():
        half = tensor.dtype == torch.float16
        size = tensor.numel() * (2 if half else 4)
        header[name] = {
            "dtype": "F16" if half else "F32",
            "shape": list(tensor.shape),
            "data_offsets": [length, length + size],
        }
        length += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for tensor in tensors.values():
        yield tensor.numpy().astype("<f2" if tensor.dtype == torch.float16 else "<f4", copy=False).tobytes()
