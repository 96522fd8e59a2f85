"""A taste as a file: numbers and a few words, no image, no prompt.

    format             "palate.taste"        version           "1"
    encoder            its identity          encoder_name      the same to read
    base               "sd15", "sdxl", ...   person            whose
    answers            "42"                  prior_variance    "3.7"       created  "2026-01-31T12:00:00+00:00"
    accuracy           "0.71"                accuracy_low, accuracy_high   "0.62", "0.79"     accuracy_answers  "84"
    author, licence    as given; like the four of the accuracy only there when known

    weights            (D,) float32          gain              (D, r) float32, optional: the posterior's covariance is
    text_weights       (H,) float32,                           prior_variance * (I - gain gain')
                       optional

The same bytes may come inside a PNG picture (`picture.py`), which is read like the file itself.

Shapes: D joint width, H width of the text tower, r at most `DIRECTIONS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..errors import EncoderMismatchError, FileFormatError, ShapeError
from ..places import typed_path
from ..taste import Accuracy, Taste
from .container import (
    encoded,
    header_of,
    read_bytes,
    read_metadata,
    read_number,
    read_tensors,
    require_format,
    write_atomically,
)
from .picture import carried

FORMAT = "palate.taste"
VERSION = 1
DIRECTIONS = 64  # of the posterior that a file keeps: those that the answers said most about
_WHAT = "a taste that Palate saved"
_ACCURACY = {  # key in the file: attribute of Accuracy
    "accuracy": "share",
    "accuracy_low": "low",
    "accuracy_high": "high",
    "accuracy_answers": "predicted",
}
_SHOWN = 12  # characters of an identity shown in messages


class NamedEncoder(Protocol):
    """An encoder, as far as a file is held against it."""

    identity: str
    name: str


@dataclass(frozen=True)
class TasteFile:
    """What a taste file says of itself, read without its numbers.

    Attributes:
        version: of the format. encoder, encoder_name, base, person, answers, prior_variance, created: as in `Taste`.
        accuracy, author, licence: as in `Taste`.
        width: D. size: of the file in bytes.
    """

    version: int
    encoder: str
    encoder_name: str
    base: str
    person: str
    answers: int
    prior_variance: float
    created: str
    width: int
    size: int
    accuracy: Accuracy | None = None
    author: str = ""
    licence: str = ""


def save_taste(taste: Taste, path: str | PathLike[str]) -> Path:
    """Write a taste; the same taste gives the same bytes.

    Args:
        taste: from `fit_taste` or a file.
        path: of the file; folders are made, a file of this name is replaced in one step.

    Raises:
        ShapeError: the taste holds NaN, which would be refused when loaded.
        StoreError: can't be written; nothing is left behind.
    """
    return write_atomically(typed_path(path), *_parts(taste))


def taste_bytes(taste: Taste) -> bytes:
    """Return what `save_taste` writes, for whoever carries it elsewhere.

    Raises:
        ShapeError: the taste holds NaN.
    """
    return encoded(*_parts(taste))


def _parts(taste: Taste) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of the file."""
    tensors = {"weights": _plain(taste.weights)}
    gain = taste.gain
    if gain is None and taste.fitted is not None:
        gain = torch.from_numpy(taste.fitted.posterior.leading_gain(DIRECTIONS).astype(np.float32))
    if gain is not None:
        tensors["gain"] = _plain(gain)
    if taste.text_weights is not None:
        tensors["text_weights"] = _plain(taste.text_weights)
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ShapeError(
                f"Cannot save the taste of {taste.person!r}: its {name} hold NaN or infinity. Learn again."
            )
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "encoder": taste.encoder,
        "encoder_name": taste.encoder_name,
        "base": taste.base,
        "person": taste.person,
        "answers": str(taste.answers),
        "prior_variance": repr(float(taste.prior_variance)),
        "created": taste.created,
    }
    if taste.accuracy is not None:
        metadata |= {key: repr(getattr(taste.accuracy, name)) for key, name in _ACCURACY.items()}
    metadata |= {key: value for key in ("author", "licence") if (value := getattr(taste, key))}
    return tensors, metadata


def load_taste(path: str | PathLike[str], encoder: str | NamedEncoder | None = None) -> Taste:
    """Read a taste.

    Args:
        path: of the file.
        encoder: the one that it is to be used with, or its identity; None takes any.

    Raises:
        FileFormatError: no taste, from a newer Palate, cut off, with NaN, or tensors missing or of a wrong shape.
        EncoderMismatchError: it belongs to another encoder; the message names both.
    """
    file = typed_path(path)
    data = _read(file)
    said = _said(file, data)
    _require_encoder(file.name, said, encoder)
    tensors = read_tensors(file.name, data, _WHAT)
    weights = _tensor(file.name, tensors, "weights", 1)
    assert weights is not None
    gain = _tensor(file.name, tensors, "gain", 2, required=False)
    if gain is not None and (gain.shape[0] != len(weights) or gain.shape[1] > len(weights)):
        raise FileFormatError(
            f"Cannot read {file.name!r}: its 'gain' has shape {tuple(gain.shape)}; expected ({len(weights)}, r) to go "
            f"with 'weights' of shape ({len(weights)},), r at most {len(weights)}."
        )
    return Taste(
        weights=weights,
        encoder=said.encoder,
        encoder_name=said.encoder_name,
        person=said.person,
        answers=said.answers,
        base=said.base,
        prior_variance=said.prior_variance,
        gain=gain,
        text_weights=_tensor(file.name, tensors, "text_weights", 1, required=False),
        created=said.created,
        accuracy=said.accuracy,
        author=said.author,
        licence=said.licence,
    )


def describe(path: str | PathLike[str]) -> TasteFile:
    """Read what a taste file says of itself.

    Raises:
        FileFormatError: as `load_taste`, as far as the header shows it.
    """
    file = typed_path(path)
    return _said(file, _read(file))


def _read(file: Path) -> bytes:
    return carried(file.name, read_bytes(file, _WHAT), _WHAT)


def _said(file: Path, data: bytes) -> TasteFile:
    metadata = read_metadata(file.name, data, _WHAT)
    version = require_format(file.name, metadata, FORMAT, VERSION, _WHAT)
    if not metadata.get("encoder"):
        raise FileFormatError(f"Cannot read {file.name!r}: it doesn't say which encoder it belongs to.")
    variance = read_number(file.name, metadata, "prior_variance", float, lowest=0.0)
    if variance == 0.0:
        raise FileFormatError(f"Cannot read {file.name!r}: its 'prior_variance' is 0; expected a number above 0.")
    return TasteFile(
        version=version,
        encoder=metadata["encoder"],
        encoder_name=metadata.get("encoder_name", ""),
        base=metadata.get("base", ""),
        person=metadata.get("person", ""),
        answers=int(read_number(file.name, metadata, "answers", int, lowest=0)),
        prior_variance=variance,
        created=metadata.get("created", ""),
        width=_width(file.name, data),
        size=len(data),
        accuracy=_accuracy(file.name, metadata),
        author=metadata.get("author", ""),
        licence=metadata.get("licence", ""),
    )


def _accuracy(name: str, metadata: dict[str, str]) -> Accuracy | None:
    if "accuracy" not in metadata:
        return None
    share, low, high = (read_number(name, metadata, key, float, lowest=0.0) for key in list(_ACCURACY)[:3])
    if not low <= share <= high <= 1.0:
        raise FileFormatError(
            f"Cannot read {name!r}: its accuracy is {share:g} in {low:g} to {high:g}; expected shares in that order. "
            "Save the taste again."
        )
    return Accuracy(share, low, high, int(read_number(name, metadata, "accuracy_answers", int, lowest=1)))


def _width(name: str, data: bytes) -> int:
    """D as the header has it."""
    shape = header_of(name, data, _WHAT).shapes.get("weights")
    if shape is None or len(shape) != 1 or shape[0] < 1:
        found = None if shape is None else list(shape)
        raise FileFormatError(
            f"Cannot read {name!r}: its 'weights' have shape {found}; expected (D,) with at least one number."
        )
    return shape[0]


def _tensor(name: str, tensors: dict[str, Tensor], key: str, dimensions: int, required: bool = True) -> Tensor | None:
    tensor = tensors.get(key)
    if tensor is None:
        if required:
            raise FileFormatError(f"Cannot read {name!r}: it has no {key!r}; expected {_WHAT}.")
        return None
    if tensor.dtype != torch.float32 or tensor.ndim != dimensions:
        kind = str(tensor.dtype).removeprefix("torch.")
        raise FileFormatError(
            f"Cannot read {name!r}: its {key!r} are {kind} of shape {tuple(tensor.shape)}; expected float32 with "
            f"{dimensions} dimension(s)."
        )
    if not bool(torch.isfinite(tensor).all()):
        raise FileFormatError(f"Cannot read {name!r}: its {key!r} hold NaN or infinity. Save the taste again.")
    return tensor


def _require_encoder(name: str, said: TasteFile, encoder: str | NamedEncoder | None) -> None:
    wanted = encoder if isinstance(encoder, str) or encoder is None else encoder.identity
    if wanted is None or wanted == said.encoder:
        return
    given = _named("" if isinstance(encoder, str) or encoder is None else encoder.name, wanted)
    raise EncoderMismatchError(
        f"Cannot use the taste {name!r}: it was learned with the encoder {_named(said.encoder_name, said.encoder)}; "
        f"the one in use is {given}. Load the first one, or learn the taste again with this one."
    )


def _named(name: str, identity: str) -> str:
    short = identity[:_SHOWN]
    return f"{name!r} ({short})" if name else short


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float32).contiguous()
