"""A LoRA as the file that ComfyUI, A1111, Forge and diffusers load: kohya's names, float16, and text about it.

Shapes: r rank, one pair of tensors for each layer: `<name>.lora_down.weight` (r, in), `<name>.lora_up.weight` (out, r).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor

from ..errors import FileFormatError, ShapeError, StoreError
from ..places import typed_path
from .container import read_bytes, read_metadata, read_tensors, write_atomically

__all__ = ["kohya_name", "load_lora_file", "require_replaceable_lora", "save_lora"]

FORMAT, VERSION = "palate.lora", 1
_BASES = {
    "sd15": ("sd_v1", "stable-diffusion-v1/lora"),
    "sdxl": ("sdxl_base_v1-0", "stable-diffusion-xl-v1-base/lora"),
}
_WHAT = "a LoRA in safetensors"
_HEADER = 1 << 22  # bytes: others' trainers write down how often each tag was there


def save_lora(
    state: Mapping[str, Tensor], path: str | PathLike[str], family: str, about: Mapping[str, str] | None = None
) -> Path:
    """Write a LoRA.

    Args:
        state: As `lora_of` gives it: `<layer>.down` and `<layer>.up`.
        path: Of the file; the ending is added when missing. A file of this name is replaced at the end.
        family: "sd15" or "sdxl".
        about: More text for the metadata, such as the person, the loss, how it was judged.

    Returns:
        The file's path.

    Raises:
        FileFormatError: another family.
        ShapeError: a half without its other half, or NaN.
        StoreError: it can't be written; an older file is untouched.
    """
    path = typed_path(path)
    if path.suffix != ".safetensors":
        path = path.with_name(path.name + ".safetensors")
    layers = sorted({name.rpartition(".")[0] for name in state})
    tensors: dict[str, Tensor] = {}
    rank = 0
    for layer in layers:
        down, up = state.get(f"{layer}.down"), state.get(f"{layer}.up")
        if down is None or up is None or not bool(torch.isfinite(down).all() and torch.isfinite(up).all()):
            raise ShapeError(f"Cannot save the LoRA: layer {layer!r} has a half only, or NaN. Train it again.")
        rank, name = int(down.shape[0]), kohya_name(layer, family)
        tensors[f"{name}.alpha"] = torch.tensor(float(rank), dtype=torch.float16)
        tensors[f"{name}.lora_down.weight"] = down.half().contiguous()
        tensors[f"{name}.lora_up.weight"] = up.half().contiguous()
    if family not in _BASES:
        raise FileFormatError(f"Cannot save the LoRA: family {family!r}; expected one of {', '.join(_BASES)}.")
    base, architecture = _BASES[family]
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": str(float(rank)),
        "ss_base_model_version": base,
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": architecture,
        "modelspec.implementation": "https://github.com/palate-nodes/palate",
        "modelspec.title": path.stem,
        **{key: value for key, value in (about or {}).items() if value},
    }
    return write_atomically(path, tensors, metadata)


def load_lora_file(path: str | PathLike[str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return a LoRA file's tensors by their names in the file, and what is said about it.

    Raises:
        FileFormatError: it is none; nothing in it is run.
    """
    path = typed_path(path)
    data = read_bytes(path, _WHAT)
    metadata = read_metadata(path.name, data, _WHAT, _HEADER, _HEADER)
    tensors = read_tensors(path.name, data, _WHAT)
    if not any(name.endswith(".lora_down.weight") for name in tensors):
        raise FileFormatError(f"Cannot read {path.name!r}: found no LoRA layer in it; expected {_WHAT}.")
    return tensors, metadata


def require_replaceable_lora(file: Path, person: str) -> None:
    """Refuse to write over what isn't a LoRA that Palate trained on the same person's answers; ask before training.

    Raises:
        StoreError: a file of this name is somebody else's.
    """
    from safetensors import SafetensorError, safe_open

    if not file.exists():
        return
    try:
        with safe_open(file, framework="pt") as opened:  # the header alone: others' LoRAs are large
            metadata = opened.metadata() or {}
    except (OSError, SafetensorError):
        metadata = {}
    if metadata.get("format") == FORMAT and metadata.get("palate.person", "") in ("", person):
        return
    whose = "no LoRA of Palate's" if metadata.get("format") != FORMAT else "another person's"
    raise StoreError(
        f"Cannot train into {file.name!r} in {file.parent}: a file of this name is there and is {whose}; expected a "
        "free name. Choose another one."
    )


def kohya_name(layer: str, family: str) -> str:
    """Return the name of a UNet's layer as kohya's trainer, and after it every host, has it in LoRA files.

    SD1.5's are diffusers' names with underscores; SDXL's are those of the original code.
    """
    if family == "sdxl":
        layer = _original(layer)
    return "lora_unet_" + layer.replace(".", "_")


def _original(layer: str) -> str:
    """diffusers' name of a layer of SDXL's attention blocks as the original code has it."""
    layer = re.sub(
        r"^down_blocks\.(\d+)\.attentions\.(\d+)", lambda m: f"input_blocks.{1 + 3 * int(m[1]) + int(m[2])}.1", layer
    )
    layer = re.sub(
        r"^up_blocks\.(\d+)\.attentions\.(\d+)", lambda m: f"output_blocks.{3 * int(m[1]) + int(m[2])}.1", layer
    )
    return re.sub(r"^mid_block\.attentions\.0", "middle_block.1", layer)
