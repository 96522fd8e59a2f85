"""Tensors of an IP-Adapter's file, read without running anything in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import FileFormatError, PPDError
from ..places import typed_path
from ..untrusted import require_size, unpickled

__all__ = ["is_ip_adapter", "read_ip_state"]

MAX_FILE = 4 << 30  # bytes; the largest known, plus for SDXL in float32, is below 1.1 GB
MAX_HEADER = 1 << 20  # bytes
_WHAT = "an IP-Adapter (.safetensors, or .bin with tensors only)"
_LAYER = re.compile(r"(\d+)\.to_(k|v)_ip\.weight")


def is_ip_adapter(names: Mapping[str, Any] | list[str]) -> bool:
    """Whether a file with tensors (or parts) of these names is an IP-Adapter's."""
    parts = {str(name).split(".", 1)[0] for name in names}
    return {"image_proj", "ip_adapter"} <= parts


def read_ip_state(
    source: str | Path | Mapping[str, Any], name: str
) -> tuple[dict[str, Tensor], list[tuple[Tensor, Tensor]]]:
    """Read a file, or take its tensors.

    Args:
        source: File, or tensors by name, flat or nested.
        name: For messages.

    Returns:
        The projector's tensors by their name after `image_proj.`, and key and value weights layer by layer, in the
        order of their numbers.

    Raises:
        FileFormatError: see `read`.
        PPDError: its layers are not those of a UNet's IP-Adapter.
    """
    found = source if isinstance(source, Mapping) else _load(typed_path(str(source)))
    if not is_ip_adapter(found):
        some = ", ".join(sorted(str(key) for key in found)[:3]) or "nothing"
        raise PPDError(
            f"Cannot use {name!r} as an IP-Adapter: it holds {some}; expected image_proj and ip_adapter of Stable "
            "Diffusion 1.5 or SDXL. IP-Adapters of Flux and SD3 are of another kind."
        )
    images, layers = (_part(found, part, name) for part in ("image_proj", "ip_adapter"))
    return images, _pairs(layers, name)


def _part(found: Mapping[str, Any], part: str, name: str) -> dict[str, Tensor]:
    nested = found.get(part)
    start = f"{part}."
    items = (
        nested
        if isinstance(nested, Mapping)
        else {key.removeprefix(start): value for key, value in found.items() if str(key).startswith(start)}
    )
    tensors = {}
    for key, value in items.items():
        if not isinstance(value, Tensor) or not value.is_floating_point():
            raise FileFormatError(
                f"Cannot read {name!r}: its {start}{key} is no tensor of numbers; expected {_WHAT}. Get it again."
            )
        tensors[str(key)] = value
    return tensors


def _pairs(layers: Mapping[str, Tensor], name: str) -> list[tuple[Tensor, Tensor]]:
    sides: dict[str, dict[int, Tensor]] = {"k": {}, "v": {}}
    for key, tensor in layers.items():
        if match := _LAYER.fullmatch(key):
            sides[match[2]][int(match[1])] = tensor
    keys, values = sides["k"], sides["v"]
    if lora := next((key for key in layers if "_lora." in key), None):
        raise PPDError(
            f"Cannot use the IP-Adapter {name!r}: it holds a LoRA ({lora}) that belongs to it; expected one without. "
            "Those of FaceID also need InsightFace, which Palate doesn't have."
        )
    numbers = sorted(keys)
    if not numbers or numbers != sorted(values) or numbers != [2 * place + 1 for place in range(len(numbers))]:
        some = f"numbers {numbers[:3]}…" if numbers else "no to_k_ip"
        raise PPDError(
            f"Cannot use the IP-Adapter {name!r}: found {some} among its layers; expected 1, 3, 5 … with a key and a "
            "value each. Get the IP-Adapter of SD1.5 or SDXL."
        )
    width = keys[1].shape[-1]
    for number in numbers:
        if keys[number].ndim != 2 or keys[number].shape != values[number].shape or keys[number].shape[1] != width:
            raise PPDError(
                f"Cannot use the IP-Adapter {name!r}: keys and values of layer {number} are "
                f"{tuple(keys[number].shape)} and {tuple(values[number].shape)}; expected both (channels, {width}). "
                "Get the file again."
            )
        for tensor in (keys[number], values[number]):
            if not bool(torch.isfinite(tensor).all()):
                raise PPDError(
                    f"Cannot use the IP-Adapter {name!r}: layer {number} holds NaN or infinity; expected numbers. "
                    "Get the file again."
                )
    return [(keys[number], values[number]) for number in numbers]


def _load(path: Path) -> Mapping[str, Any]:
    try:
        size = require_size(path, _WHAT, MAX_FILE)
        with path.open("rb") as file:
            head = file.read(9)
        return _load_safetensors(path, head, size) if head[8:9] == b"{" else _load_pickle(path)
    except FileFormatError:
        raise
    except Exception as error:  # safetensors and the system raise their own kinds for a broken file
        raise FileFormatError(
            f"Cannot read {path.name[:200]!r}: {str(error)[:300]}; expected {_WHAT}. It is cut off or damaged."
        ) from error


def _load_safetensors(path: Path, head: bytes, size: int) -> Mapping[str, Any]:
    from safetensors import safe_open

    length = int.from_bytes(head[:8], "little")
    if length > min(MAX_HEADER, size - 8):
        raise FileFormatError(
            f"Cannot read {path.name!r}: a header of {length:,} bytes in a file of {size:,}; expected {_WHAT}."
        )
    with safe_open(str(path), framework="pt", device="cpu") as file:
        names = list(file.keys())
        wanted = [name for name in names if name.startswith(("image_proj.", "ip_adapter."))]
        return {name: file.get_tensor(name) for name in wanted} or dict.fromkeys(names[:3])


def _load_pickle(path: Path) -> Mapping[str, Any]:
    loaded = unpickled(path, _WHAT, MAX_FILE)
    if not isinstance(loaded, Mapping):
        raise FileFormatError(f"Cannot read {path.name!r}: it holds a {type(loaded).__name__}; expected {_WHAT}.")
    return loaded
