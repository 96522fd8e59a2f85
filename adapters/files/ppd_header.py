"""What a PPD file says of itself, checked entry by entry; `ppd_file.py` draws the format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..errors import FileFormatError
from ..ppd.layers import LayerShape
from ..ppd.learned import LearnedTokens
from ..ppd.model import BASES
from ..ppd.pairs_encoder import PairsEncoder
from ..ppd.vlm import VLMEncoder
from .container import Header, read_number, require_format

__all__ = ["ENCODERS", "FORMAT", "VERSION", "WHAT", "PPDFile", "ppd_said"]

FORMAT, VERSION = "palate.ppd", 1
WHAT = "PPD weights that Palate saved"
ENCODERS: dict[str, type[nn.Module]] = {"pairs": PairsEncoder, "vlm": VLMEncoder, "learned": LearnedTokens}
_MOST_LAYERS = 1024  # of anything in a file
_MOST_SIDE = 1 << 20


@dataclass(frozen=True)
class PPDFile:
    """What a PPD file says of itself, read without its numbers.

    Attributes:
        version: Of the format.
        identity, base, name, image_encoder, image_encoder_name, created: As in `PPD`.
        width: W. layers: As in `UserAttention`.
        kind, config: Of the user encoder; "" and {} for none.
        size: Of the file in bytes.
    """

    version: int
    identity: str
    base: str
    name: str
    width: int
    layers: tuple[LayerShape, ...]
    kind: str
    config: dict[str, Any]
    image_encoder: str
    image_encoder_name: str
    created: str
    size: int


def ppd_said(name: str, header: Header) -> PPDFile:
    """Return what a header says.

    Args:
        name: Of the file, for messages.
        header: Of it, as `read_header` gives it.

    Raises:
        FileFormatError: no PPD's header, from a newer Palate, or an entry makes no sense.
    """
    metadata = header.metadata
    version = require_format(name, metadata, FORMAT, VERSION, WHAT)
    base = metadata.get("base", "")
    if base not in BASES:
        raise FileFormatError(
            f"Cannot read {name!r}: its base is {base[:40]!r}; expected one of {', '.join(BASES)}. Update Palate."
        )
    return PPDFile(
        version,
        metadata.get("identity", ""),
        base,
        metadata.get("name", ""),
        int(read_number(name, metadata, "width", int, lowest=1)),
        _layers(name, metadata),
        *_encoder_said(name, metadata),
        metadata.get("image_encoder", ""),
        metadata.get("image_encoder_name", ""),
        metadata.get("created", ""),
        header.size,
    )


def _layers(name: str, metadata: Mapping[str, str]) -> tuple[LayerShape, ...]:
    count = sum(key.startswith("layer.") for key in metadata)
    layers = []
    for number in range(count):
        parts = metadata.get(f"layer.{number}", "").split(" ")
        sides = [int(part) for part in parts[1:] if part.isascii() and part.isdigit() and len(part) <= 7]
        if len(parts) != 5 or len(sides) != 4 or not all(1 <= side <= _MOST_SIDE for side in sides):
            raise FileFormatError(f"Cannot read {name!r}: its 'layer.{number}' is broken. Get it again.")
        layer = LayerShape(parts[0], *sides)
        if layer.inner % layer.heads:
            raise FileFormatError(
                f"Cannot read {name!r}: its layer {layer.name} has {layer.heads} heads for {layer.inner} channels; "
                "expected heads of one width. Get it again."
            )
        layers.append(layer)
    if not 1 <= count <= _MOST_LAYERS:
        raise FileFormatError(f"Cannot read {name!r}: it has {count} layers; expected 1 to {_MOST_LAYERS}.")
    return tuple(layers)


def _encoder_said(name: str, metadata: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    kind = metadata.get("kind", "")
    if kind and kind not in ENCODERS:
        raise FileFormatError(
            f"Cannot read {name!r}: its user encoder is of the kind {kind[:40]!r}; expected one of "
            f"{', '.join(ENCODERS)}. Update Palate."
        )
    try:
        config = json.loads(metadata.get("config", "{}"))
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict) or not all(_harmless(key, value) for key, value in config.items()):
        raise FileFormatError(f"Cannot read {name!r}: its 'config' is broken. Get it again.")
    return kind, config


def _harmless(key: str, value: object) -> bool:
    """Whether an encoder can be built with this: sizes, names, or nothing; no number of layers that takes minutes."""
    if isinstance(value, list):
        return all(isinstance(one, str) for one in value)
    most = _MOST_LAYERS if key == "layers" else _MOST_SIDE
    return value is None or (type(value) is int and 0 <= value <= most)
