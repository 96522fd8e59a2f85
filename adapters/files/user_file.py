"""A user embedding as a file of kilobytes: numbers and a few words, no image, no prompt.

    format        "palate.user"       version        "1"
    ppd           identity of the PPD that made it
    base          "sd15", "sdxl", ... person         who            pairs    "4"
    encoder       its identity        encoder_name   the same to read
    created       "2026-01-31T12:00:00+00:00"

    tokens        (K, W) float32      negative       (K', W) float32, optional

Shapes: K tokens, W their width.
"""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import torch

from ..errors import FileFormatError
from ..places import typed_path
from ..ppd.model import PPD
from ..ppd.user import User
from .container import MAX_TEXT, Header, header_of, read_bytes, read_number, read_tensors, require_format
from .writing import write_atomically

__all__ = ["UserFile", "describe_user", "load_user", "save_user"]

FORMAT, VERSION = "palate.user", 1
MOST_TOKENS = 4096
_WHAT = "a user embedding that Palate saved"


@dataclass(frozen=True)
class UserFile:
    """What a user file says of itself, read without its numbers.

    Attributes:
        version: Of the format. ppd, base, person, pairs, encoder, encoder_name, created: As in `User`.
        tokens: K. width: W. size: Of the file in bytes.
    """

    version: int
    ppd: str
    base: str
    person: str
    pairs: int
    encoder: str
    encoder_name: str
    created: str
    tokens: int
    width: int
    size: int


def save_user(user: User, path: str | PathLike[str]) -> Path:
    """Write a user embedding; the same user gives the same bytes.

    Args:
        user: Of one person, or a blend.
        path: Of the file; the ending is added when missing. A file of this name is replaced in one step.

    Raises:
        StoreError: it can't be written; an older file is untouched.
    """
    tensors = {"tokens": user.tokens} | ({} if user.negative is None else {"negative": user.negative})
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "ppd": user.ppd,
        "base": user.base,
        "person": user.person[:MAX_TEXT],
        "pairs": str(user.pairs),
        "encoder": user.encoder,
        "encoder_name": user.encoder_name[:MAX_TEXT],
        "created": user.created,
    }
    return write_atomically(safetensors_path(path), tensors, metadata)


def load_user(path: str | PathLike[str], ppd: PPD | None = None) -> User:
    """Read a user embedding.

    Args:
        path: Of the file.
        ppd: The PPD that it is to be used with; None takes any.

    Raises:
        FileFormatError: none, from a newer Palate, cut off, with NaN, or tensors missing or of a wrong shape.
        PPDError: it was made by another PPD; the message names both.
    """
    file = typed_path(path)
    data = read_bytes(file, _WHAT)
    said = _said(file.name, header_of(file.name, data, _WHAT))
    tensors = read_tensors(file.name, data, _WHAT)
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise FileFormatError(f"Cannot read {file.name!r}: its {name!r} hold NaN or infinity. Save the user again.")
    user = User(
        tensors["tokens"],
        said.ppd,
        tensors.get("negative"),
        person=said.person,
        pairs=said.pairs,
        encoder=said.encoder,
        encoder_name=said.encoder_name,
        base=said.base,
        created=said.created,
    )
    if ppd is not None:
        ppd.takes(user)
    return user


def describe_user(path: str | PathLike[str]) -> UserFile:
    """Read what a user file says of itself.

    Raises:
        FileFormatError: as `load_user`, as far as the header shows it.
    """
    file = typed_path(path)
    return _said(file.name, header_of(file.name, read_bytes(file, _WHAT), _WHAT))


def safetensors_path(path: str | PathLike[str]) -> Path:
    """A path as typed, with the ending of safetensors files."""
    file = typed_path(path)
    return file if file.suffix == ".safetensors" else file.with_name(file.name + ".safetensors")


def _said(name: str, header: Header) -> UserFile:
    metadata = header.metadata
    version = require_format(name, metadata, FORMAT, VERSION, _WHAT)
    if not metadata.get("ppd"):
        raise FileFormatError(f"Cannot read {name!r}: it doesn't say which PPD it belongs to. Encode the person again.")
    unknown = sorted(header.shapes.keys() - {"tokens", "negative"})
    if unknown or "tokens" not in header.shapes:
        found = ", ".join(repr(key[:40]) for key in unknown[:3]) or "no 'tokens'"
        raise FileFormatError(f"Cannot read {name!r}: it holds {found}; expected 'tokens': {_WHAT}.")
    tokens = header.shapes["tokens"]
    for key, shape in header.shapes.items():
        fits = len(shape) == 2 and 1 <= shape[0] <= MOST_TOKENS and shape[1] >= 1 and shape[1:] == tokens[1:]
        if not fits or header.dtypes[key] != "F32":
            raise FileFormatError(
                f"Cannot read {name!r}: its {key!r} are {header.dtypes[key][:12]} of shape {shape}; expected F32 of "
                f"shape (K, W), at most {MOST_TOKENS} tokens, all of one width."
            )
    return UserFile(
        version,
        metadata["ppd"],
        metadata.get("base", ""),
        metadata.get("person", ""),
        int(read_number(name, metadata, "pairs", int, lowest=0)),
        metadata.get("encoder", ""),
        metadata.get("encoder_name", ""),
        metadata.get("created", ""),
        tokens[0],
        tokens[1],
        header.size,
    )
