"""Reading a safetensors file of unknown origin with care, and writing one in a single step.

Nothing here can execute what a file holds: lengths and a JSON header, then plain numbers.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import FileFormatError, StoreError

MAX_HEADER = 1 << 20  # bytes; a taste's is below 10 KB
MAX_FILE = 1 << 28  # bytes; a taste's is below 1 MB
MAX_TEXT = 4_000  # characters of one entry of the metadata


def read_bytes(path: Path, what: str) -> bytes:
    """Return a whole file of at most `MAX_FILE` bytes."""
    try:
        if not path.is_file():
            raise FileFormatError(f"Cannot read {path.name!r}: there is no such file; expected {what}.")
        size = path.stat().st_size
        if size > MAX_FILE:
            raise FileFormatError(
                f"Cannot read {path.name!r}: it has {size:,} bytes; expected {what}, at most {MAX_FILE:,}."
            )
        return path.read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, FileFormatError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise FileFormatError(f"Cannot read {path.name[:200]!r}: {reason}; expected {what}.") from error


def read_metadata(name: str, data: bytes, what: str) -> dict[str, str]:
    """Return the text that a safetensors file carries, after checking that it is one.

    Args:
        name: of the file, for messages.
        data: its bytes.
        what: it should be, for messages.

    Raises:
        FileFormatError: not safetensors, a header over `MAX_HEADER` bytes, or metadata that isn't text.
    """
    if len(data) < 9 or data[8:9] != b"{":
        kind = "a pickle" if data[:2] in (b"PK", b"\x80\x02", b"\x80\x04", b"\x80\x05") else "no safetensors file"
        raise FileFormatError(f"Cannot read {name!r}: it is {kind}; expected {what}. Nothing in it was run.")
    length = int.from_bytes(data[:8], "little")
    if length > MAX_HEADER or length > len(data) - 8:
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
        if len(value) > MAX_TEXT:
            raise FileFormatError(
                f"Cannot read {name!r}: its {key[:40]!r} has {len(value):,} characters; expected at most {MAX_TEXT:,}."
            )
    return metadata


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
    return write_bytes_atomically(path, encoded(tensors, metadata))


def write_bytes_atomically(path: Path, data: bytes) -> Path:
    """Write a file of any kind in the same way."""
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".palate-", suffix=".tmp", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except (OSError, ValueError) as error:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        reason = getattr(error, "strerror", None) or error
        raise StoreError(
            f"Cannot save {path.name[:200]!r} in {path.parent}: {reason}; expected a folder with room that can be "
            "written. Choose another folder or name."
        ) from error
    return path


def encoded(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Return the file's bytes; safetensors' own writer shuffles the metadata, so that one taste gave many files."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    parts, length = [], 0
    for name, tensor in tensors.items():
        half = tensor.dtype == torch.float16
        numbers = tensor.numpy().astype("<f2" if half else "<f4").tobytes()
        header[name] = {
            "dtype": "F16" if half else "F32",
            "shape": list(tensor.shape),
            "data_offsets": [length, length + len(numbers)],
        }
        parts.append(numbers)
        length += len(numbers)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *parts])
