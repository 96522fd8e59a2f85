"""A LoRA as the file that ComfyUI, A1111, Forge and diffusers load: float16, and text about it.

For UNets the names are kohya's; for SD3 and Flux, which have kohya's names for other layers than diffusers', they are
diffusers' own, which ComfyUI reads, too.

Shapes: r rank, one pair of tensors for each layer: `<name>.lora_down.weight` (r, in), `<name>.lora_up.weight` (out, r);
diffusers calls them `lora_A` and `lora_B`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor

from ..errors import FileFormatError, ShapeError, StoreError
from ..places import typed_path
from .container import read_bytes, read_metadata, read_tensors
from .writing import write_atomically

__all__ = ["Halves", "halves_in", "kohya_name", "layers_in", "load_lora_file", "require_replaceable_lora", "save_lora"]

FORMAT, VERSION = "palate.lora", 1
_BASES = {
    "sd15": ("sd_v1", "stable-diffusion-v1/lora"),
    "sdxl": ("sdxl_base_v1-0", "stable-diffusion-xl-v1-base/lora"),
    "sd3": ("sd3", "stable-diffusion-3-medium/lora"),
    "sd35-medium": ("sd3", "stable-diffusion-3-5-medium/lora"),
    "sd35-large": ("sd3", "stable-diffusion-3-5-large/lora"),
    "flux": ("flux1", "flux-1-dev/lora"),
    "flux-schnell": ("flux1", "flux-1-schnell/lora"),
}
_KOHYAS = ("sd15", "sdxl")  # whose names are kohya's
_DOWN, _UP = ("lora_down.weight", "lora_A.weight"), ("lora_up.weight", "lora_B.weight")
_WHAT = "a LoRA in safetensors"
_HEADER = 1 << 22  # bytes: others' trainers write down how often each tag was there


def save_lora(
    state: Mapping[str, Tensor], path: str | PathLike[str], family: str, about: Mapping[str, str] | None = None
) -> Path:
    """Write a LoRA.

    Args:
        state: As `lora_of` gives it: `<layer>.down` and `<layer>.up`.
        path: Of the file; the ending is added when missing. A file of this name is replaced at the end.
        family: "sd15", "sdxl", "sd3", "sd35-medium", "sd35-large", "flux" or "flux-schnell".
        about: More text for the metadata, such as the person, the loss, how it was judged.

    Returns:
        The file's path.

    Raises:
        FileFormatError: another family.
        ShapeError: a half without its other half, NaN, or a weight that float16 can't hold.
        StoreError: it can't be written; an older file is untouched.
    """
    path = typed_path(path)
    if path.suffix != ".safetensors":
        path = path.with_name(path.name + ".safetensors")
    layers = sorted({name.rpartition(".")[0] for name in state})
    tensors: dict[str, Tensor] = {}
    rank = 0
    for layer in layers:
        halves = (state.get(f"{layer}.down"), state.get(f"{layer}.up"))
        # In float16, in which a weight above 65504 is infinite and every picture black.
        down, up = (None if half is None else half.half().contiguous() for half in halves)
        if down is None or up is None or not bool(torch.isfinite(down).all() and torch.isfinite(up).all()):
            raise ShapeError(
                f"Cannot save the LoRA: layer {layer!r} has a half only, NaN, or weights above 65504. Train it again, "
                "with a lower learning rate."
            )
        rank, kohyas = int(down.shape[0]), family in _KOHYAS
        name = kohya_name(layer, family) if kohyas else _diffusers_name(layer)
        if kohyas:  # diffusers' names go without: what isn't said is the rank, everywhere
            tensors[f"{name}.alpha"] = torch.tensor(float(rank), dtype=torch.float16)
        tensors[f"{name}.{_DOWN[not kohyas]}"], tensors[f"{name}.{_UP[not kohyas]}"] = down, up
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
    if not any(name.endswith(_DOWN) for name in tensors):
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


@dataclass(frozen=True, eq=False)
class Halves:
    """One layer of a LoRA in a file.

    Attributes:
        name: Of the layer in the file.
        down, up: (r, in) and (out, r).
        alpha: What their product is multiplied with, over r; None: r.
    """

    name: str
    down: Tensor
    up: Tensor
    alpha: Tensor | None = None

    @property
    def scale(self) -> float:
        """What their product is multiplied with."""
        return 1.0 if self.alpha is None else float(self.alpha) / len(self.down)


def halves_in(tensors: Mapping[str, Tensor], layer: str) -> Halves | None:
    """Return what a LoRA's file has for a layer by diffusers' name, whichever family it is for; None: nothing."""
    names = (*(kohya_name(layer, family) for family in _KOHYAS), _diffusers_name(layer))
    return next((found for found in (halves_of(tensors, name) for name in names) if found is not None), None)


def halves_of(tensors: Mapping[str, Tensor], name: str) -> Halves | None:
    """Return the same of a layer by its name in the file."""
    for one, other in zip(_DOWN, _UP, strict=True):
        down, up = tensors.get(f"{name}.{one}"), tensors.get(f"{name}.{other}")
        if down is not None and up is not None:
            return Halves(name, down, up, tensors.get(f"{name}.alpha"))
    return None


def layers_in(tensors: Mapping[str, Tensor]) -> set[str]:
    """Return the layers' names in a LoRA's file."""
    return {name[: -len(end) - 1] for name in tensors for end in _DOWN if name.endswith(f".{end}")}


def _diffusers_name(layer: str) -> str:
    """Of a layer of a transformer in a pipeline."""
    return f"transformer.{layer}"


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
