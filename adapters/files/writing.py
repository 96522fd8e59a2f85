"""Writing a file in a single step: it is there whole or not at all; and safetensors of the same bytes every time."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import StoreError

__all__ = ["encoded", "write_atomically", "write_bytes_atomically"]


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
