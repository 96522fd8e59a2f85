"""PPD weights as a file that says what it fits: base, layers, user encoder and image encoder.

    format          "palate.ppd"        version              "1"
    identity        of these weights    name, created        for people
    base            "sd15", "sdxl" ...  width                "768"
    layer.0 ...     "name query inner heads out" of each layer
    kind, config    of the user encoder, "" and "{}" for none; config is JSON
    image_encoder   its identity        image_encoder_name   the same to read

    attention.keys.0.weight ..., attention.values.0.weight ...    (inner, W) float16
    encoder....                                                   float16

Everything the header says is checked, and the model that it describes is held against the tensors' shapes, before any
number is read: SDXL's weights are over 700 MB. The numbers must then give the identity, so a damaged file is noticed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..encoders import ImageTextEncoder
from ..errors import EncoderMismatchError, FileFormatError, PPDError
from ..places import typed_path
from ..ppd.attention import UserAttention
from ..ppd.ip_adapter import read as read_ip_adapter
from ..ppd.ip_file import is_ip_adapter
from ..ppd.model import PPD
from .container import MAX_TEXT, Header, read_header
from .encoder_in_use import NamedEncoder, called, other_encoder
from .ppd_header import ENCODERS, FORMAT, VERSION, WHAT, PPDFile, ppd_said
from .user_file import safetensors_path
from .writing import write_atomically

__all__ = ["PPDFile", "describe_ppd", "load_ppd", "save_ppd"]

MOST_BYTES = 8 << 30


def save_ppd(ppd: PPD, path: str | PathLike[str]) -> Path:
    """Write PPD weights in float16; the same PPD gives the same bytes.

    Args:
        ppd: With a user encoder of Palate's own, or none.
        path: Of the file; the ending is added when missing. A file of this name is replaced in one step.

    Raises:
        PPDError: NaN or numbers beyond float16 among the weights, or a user encoder that has no file of this kind.
        StoreError: it can't be written; an older file is untouched.
    """
    encoder: Any = ppd.encoder
    if encoder is not None and encoder.kind not in ENCODERS:
        raise PPDError(
            f"Cannot save {ppd.name!r}: its user encoder is of the kind {encoder.kind!r}; expected one of "
            f"{', '.join(ENCODERS)}. An IP-Adapter stays the file that it is: load that one."
        )
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "identity": ppd.identity,
        "base": ppd.base,
        "name": ppd.name[:MAX_TEXT],
        "width": str(ppd.width),
        "kind": "" if encoder is None else encoder.kind,
        "config": json.dumps({} if encoder is None else encoder.config, sort_keys=True),
        "image_encoder": ppd.image_encoder,
        "image_encoder_name": ppd.image_encoder_name[:MAX_TEXT],
        "created": ppd.created,
    }
    for number, layer in enumerate(ppd.attention.layers):
        metadata[f"layer.{number}"] = f"{layer.name} {layer.query} {layer.inner} {layer.heads} {layer.out}"
    return write_atomically(safetensors_path(path), _Halves(ppd.state_dict()), metadata)


def load_ppd(
    path: str | PathLike[str],
    image_encoder: str | NamedEncoder | None = None,
    precision: torch.dtype = torch.float32,
) -> PPD:
    """Read PPD weights, or an IP-Adapter as one that was never trained on preferences.

    Args:
        path: Of the file.
        image_encoder: The one that people are to be encoded with, or its identity; None takes any.
        precision: Of the weights in memory; float32 to train them.

    Raises:
        FileFormatError: neither, from a newer Palate, cut off or damaged, with NaN, or tensors that don't fit the
            layers and the user encoder that the file names.
        EncoderMismatchError: it was trained with another image encoder; the message names both.
        PPDError: an IP-Adapter of a kind that isn't supported.
    """
    file = typed_path(path)
    if _is_foreign(file):
        tower = image_encoder if isinstance(image_encoder, ImageTextEncoder) else None
        return read_ip_adapter(file, image_encoder=tower, precision=precision)
    header = read_header(file, WHAT, MOST_BYTES)
    said = ppd_said(file.name, header)
    _require_image_encoder(file.name, said, image_encoder)
    with torch.inference_mode(False):  # a host may be in it; these weights may be trained yet
        ppd = _described(file.name, said, header)
        ppd.load_state_dict(_tensors(file, header, precision), assign=True)
    ppd.requires_grad_(True)
    try:
        found = ppd.identity
    except PPDError as error:
        raise FileFormatError(f"Cannot read {file.name!r}: {error}") from error
    if found != said.identity:
        raise FileFormatError(
            f"Cannot read {file.name!r}: its numbers are those of {found[:12]}, its header says "
            f"{said.identity[:12]}; expected the same. It is damaged: get it again."
        )
    return ppd


def describe_ppd(path: str | PathLike[str]) -> PPDFile:
    """Read what a PPD file says of itself.

    Raises:
        FileFormatError: as `load_ppd`, as far as the header shows it; an IP-Adapter's says nothing.
    """
    file = typed_path(path)
    return ppd_said(file.name, read_header(file, WHAT, MOST_BYTES))


class _Halves(Mapping[str, Tensor]):
    """Tensors by name in order, made float16 when they are written: all at once would be another 700 MB."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = dict(sorted(tensors.items()))

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name].detach().to("cpu", torch.float16).contiguous()

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def _is_foreign(file: Path) -> bool:
    """Whether `ip_adapter.read` knows better: a pickle's ending, or an IP-Adapter's tensors."""
    if file.suffix.lower() in (".bin", ".pt", ".pth", ".ckpt"):
        return True
    header = read_header(file, WHAT, MOST_BYTES)
    return "format" not in header.metadata and is_ip_adapter(list(header.shapes))


def _described(name: str, said: PPDFile, header: Header) -> PPD:
    """The PPD that the header speaks of, without numbers, once all tensors have the shapes that it has."""
    try:
        with torch.device("meta"):
            attention = UserAttention(said.layers, said.width, seed=None)
            encoder = ENCODERS[said.kind](**said.config) if said.kind else None
        ppd = PPD(
            attention,
            encoder,
            said.base,
            said.name,
            said.image_encoder,
            said.image_encoder_name,
            said.created,
        )
    except (PPDError, TypeError, ValueError, RuntimeError) as error:
        raise FileFormatError(
            f"Cannot read {name!r}: its user encoder can't be built ({error}). Get it again."
        ) from error
    wanted = {key: tuple(tensor.shape) for key, tensor in ppd.state_dict().items()}
    for key in sorted(wanted.keys() | header.shapes.keys()):
        found = header.shapes.get(key)
        if found != wanted.get(key) or header.dtypes[key] not in ("F16", "F32"):
            raise FileFormatError(
                f"Cannot read {name!r}: its tensor {key[:80]!r} is "
                f"{'missing' if found is None else f'{header.dtypes[key][:12]} of shape {found}'}; expected "
                f"{f'F16 of shape {wanted[key]}' if key in wanted else 'none of this name'}, as its own layers have it."
            )
    return ppd


def _tensors(file: Path, header: Header, precision: torch.dtype) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(file), framework="pt", device="cpu") as opened:
            # A clone, since the file's own memory ends with the file.
            return {name: opened.get_tensor(name).to(precision, copy=True) for name in header.shapes}
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise FileFormatError(
            f"Cannot read {file.name!r}: {error}; expected {WHAT}. It is cut off or damaged."
        ) from error


def _require_image_encoder(name: str, said: PPDFile, encoder: str | NamedEncoder | None) -> None:
    given = other_encoder(encoder, said.image_encoder)
    if said.image_encoder and given is not None:
        trained = called(said.image_encoder_name, said.image_encoder)
        raise EncoderMismatchError(
            f"Cannot use the PPD {name!r}: it was trained with the image encoder {trained}; the one in use is {given}. "
            "Load the first one."
        )
