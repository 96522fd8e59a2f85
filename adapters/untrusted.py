"""Somebody else's weights file, before it is read: nothing in it is run, and it is not larger in memory than on disk.

A pickle of tensors can unpack to a thousand times its size (torch itself never packs), and can say of a few numbers
that they are a billion; a safetensors file can begin with a header of hundreds of megabytes. All of that is refused
here, for the readers of every kind of weights.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .errors import FileFormatError

__all__ = ["MOST_WEIGHTS", "require_short_header", "require_size", "unpickled"]

MOST_WEIGHTS = 16 << 30  # bytes; of the largest models' files
MOST_HEADER = 4 << 20  # bytes; SDXL's checkpoint has 0.3 MB
_ZIP = b"PK\x03\x04"
MOST_PARTS = 1 << 20  # objects of a pickle that are looked at


def unpickled(path: Path, what: str, most: int = MOST_WEIGHTS) -> Any:
    """Return what a file of `torch.save` holds: tensors, numbers and text, in lists and dictionaries.

    Args:
        path: Of the file.
        what: It should be, for messages.
        most: Bytes that it may have.

    Raises:
        FileFormatError: no such file, too large, damaged, packed, with anything that would have to be run, or with a
            tensor that claims more numbers than the file holds.
    """
    name = path.name[:200]
    try:
        _require_unpacked(path, what, require_size(path, what, most))
        found = torch.load(path, map_location="cpu", weights_only=True)
    except FileFormatError:
        raise
    except pickle.UnpicklingError as error:
        raise FileFormatError(
            f"Cannot read {name!r}: found something else than tensors, or what would run code when loaded; "
            f"expected {what}. Nothing in it was run. Convert it to safetensors where you trust it."
        ) from error
    except Exception as error:  # torch, zipfile and the system raise their own kinds for a broken file
        raise FileFormatError(
            f"Cannot read {name!r}: {_reason(error)}; expected {what}. It is cut off or damaged."
        ) from error
    _require_honest(name, found, what)
    return found


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):  # torch's, with the number of what it doesn't know for a text
        return "it is no file of torch.save"
    return str(error)[:300] or "it ends too early"


def require_short_header(path: Path, what: str, most: int = MOST_HEADER) -> None:
    """Refuse a safetensors file whose header is too long to be a model's; whatever else is wrong its reader says.

    Raises:
        FileFormatError: longer than `most` bytes.
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > most and file.read(1) == b"{":
            raise FileFormatError(
                f"Cannot read {path.name[:200]!r}: a header of {length:,} bytes; expected {what}, at most {most:,}."
            )


def require_size(path: Path, what: str, most: int) -> int:
    """Return how many bytes a file has.

    Raises:
        FileFormatError: there is none, or it has more than `most`.
        OSError, ValueError: the system can't say.
    """
    if not path.is_file():
        raise FileFormatError(f"Cannot read {path.name[:200]!r}: there is no such file; expected {what}.")
    size = path.stat().st_size
    if size > most:
        raise FileFormatError(f"Cannot read {path.name!r}: it has {size:,} bytes; expected {what}, at most {most:,}.")
    return size


def _require_unpacked(path: Path, what: str, size: int) -> None:
    with path.open("rb") as file:
        if file.read(4) != _ZIP:  # torch's older way has nothing packed
            return
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(part.file_size for part in archive.infolist())
    if unpacked > size:
        raise FileFormatError(
            f"Cannot read {path.name!r}: it unpacks to {unpacked:,} bytes from {size:,}; expected {what}, which is "
            "not packed. Get it from where it was made."
        )


def _require_honest(name: str, found: object, what: str) -> None:
    """Refuse tensors that claim more numbers than they hold: a view can repeat one number a billion times."""
    waiting, seen = [found], set[int]()
    while waiting:
        one = waiting.pop()
        if isinstance(one, Tensor):
            if one.layout != torch.strided or one.is_meta or one.numel() * one.element_size() > _held(one):
                raise FileFormatError(
                    f"Cannot read {name!r}: a tensor in it claims {one.numel():,} numbers; expected {what}, with as "
                    "many as it holds. Get the file again."
                )
        elif isinstance(one, (Mapping, list, tuple)) and id(one) not in seen:
            seen.add(id(one))
            waiting += one.values() if isinstance(one, Mapping) else one
            if len(seen) > MOST_PARTS:
                raise FileFormatError(f"Cannot read {name!r}: it has over {MOST_PARTS:,} parts; expected {what}.")


def _held(tensor: Tensor) -> int:
    """Bytes that a tensor's numbers lie in."""
    return tensor.untyped_storage().nbytes()
