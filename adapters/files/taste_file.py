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

from os import PathLike
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import EncoderMismatchError, FileFormatError, ShapeError
from ..places import typed_path
from ..taste import Taste
from .container import read_bytes, read_tensors
from .encoder_in_use import NamedEncoder, called, other_encoder
from .picture import carried
from .taste_said import ACCURACY, FORMAT, VERSION, WHAT, TasteFile, said_of
from .writing import encoded, write_atomically

DIRECTIONS = 64  # of the posterior that a file keeps: those that the answers said most about


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
        metadata |= {key: repr(getattr(taste.accuracy, name)) for key, name in ACCURACY.items()}
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
    said = said_of(file, data)
    _require_encoder(file.name, said, encoder)
    tensors = read_tensors(file.name, data, WHAT)
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
    return said_of(file, _read(file))


def _read(file: Path) -> bytes:
    return carried(file.name, read_bytes(file, WHAT), WHAT)


def _tensor(name: str, tensors: dict[str, Tensor], key: str, dimensions: int, required: bool = True) -> Tensor | None:
    tensor = tensors.get(key)
    if tensor is None:
        if required:
            raise FileFormatError(f"Cannot read {name!r}: it has no {key!r}; expected {WHAT}.")
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
    given = other_encoder(encoder, said.encoder)
    if given is not None:
        learned = called(said.encoder_name, said.encoder)
        raise EncoderMismatchError(
            f"Cannot use the taste {name!r}: it was learned with the encoder {learned}; the one in use is {given}. "
            "Load the first one, or learn the taste again with this one."
        )


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float32).contiguous()
