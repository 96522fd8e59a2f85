"""Whole models on disk: a checkpoint or a pipeline's folder with other weights in its denoiser, in half precision.

A single file stays a single file of the same layout, copied a tensor at a time, so a model of any size needs the memory
of its largest tensor; a folder (and the playground) becomes a folder.

Shapes: r rank of a LoRA, one pair of halves for each layer: `<name>.lora_down.weight` (r, in), `<name>.lora_up.weight`
(out, r).
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import FileFormatError, StoreError
from ..files.container import write_bytes_atomically
from ..files.lora_file import kohya_name, load_lora_file
from ..places import typed_path
from ..steering.checkpoint_kind import UNET, checkpoint_family, read_shapes
from ..steering.pipelines import load_pipeline

__all__ = ["merge_lora", "require_new", "save_checkpoint"]

Change = Callable[[str, Tensor], Tensor]  # from a denoiser's parameter, by diffusers' name, to what takes its place
_WIDTHS = {"F16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}  # bytes of a number


def merge_lora(
    model: str | PathLike[str], lora: str | PathLike[str], path: str | PathLike[str], strength: float = 1.0
) -> Path:
    """Write a model with a LoRA of `save_lora` added to its weights for good.

    Args:
        model: As `Generator` takes it: a single file, a folder, "playground".
        lora: The LoRA's file; for the same family.
        path: Of the new file, ending in .safetensors; or of the new folder, where the model is one.
        strength: What the LoRA is multiplied with.

    Returns:
        The path.

    Raises:
        FileFormatError: the LoRA is none, or has layers that this model lacks or that don't fit it.
        SteeringError: there is no such model.
        StoreError: it can't be written; what was there is untouched.
    """
    tensors, _ = load_lora_file(lora)
    used: set[str] = set()
    name_of_file = typed_path(lora).name

    def change(name: str, value: Tensor) -> Tensor:
        for family in ("sd15", "sdxl"):
            key = kohya_name(name.removesuffix(".weight"), family)
            down, up = tensors.get(f"{key}.lora_down.weight"), tensors.get(f"{key}.lora_up.weight")
            if not name.endswith(".weight") or down is None or up is None:
                continue
            used.add(key)
            scale = strength * float(tensors.get(f"{key}.alpha", torch.tensor(len(down)))) / len(down)
            if (up.shape[0], down.shape[1]) != tuple(value.shape):
                raise FileFormatError(
                    f"Cannot merge {name_of_file!r}: its layer {key} is for {(up.shape[0], down.shape[1])}, this "
                    f"model's is {tuple(value.shape)}. Take the model that it was trained on."
                )
            return value.float() + scale * (up.to(value.device).float() @ down.to(value.device).float())
        return value

    def whole() -> None:
        missing = {key.rpartition(".lora_down")[0] for key in tensors if key.endswith(".lora_down.weight")} - used
        if missing:
            raise FileFormatError(
                f"Cannot merge {name_of_file!r}: this model has no layer {min(missing)} ({len(missing)} are missing). "
                "Take the model that it was trained on."
            )

    return _written(model, path, change, whole)


def save_checkpoint(model: str | PathLike[str], state: Mapping[str, Tensor], path: str | PathLike[str]) -> Path:
    """Write a model with other weights in its denoiser.

    Args:
        model: What was trained, as for `merge_lora`.
        state: The denoiser's parameters by diffusers' names, as `state_of` gives them.
        path: As for `merge_lora`.

    Raises:
        SteeringError, StoreError: as for `merge_lora`.
    """
    return _written(model, path, lambda name, value: state.get(name, value), lambda: None)


def _written(model: str | PathLike[str], path: str | PathLike[str], change: Change, whole: Callable[[], None]) -> Path:
    path, source = typed_path(path), typed_path(model)
    if str(model) != "playground" and os.path.isfile(source):
        path = path if path.suffix == ".safetensors" else path.with_name(f"{path.name}.safetensors")
        return _single_file(source, path, change, whole)
    return _folder(model, path, change, whole)


def require_new(model: str | PathLike[str], *paths: Path) -> None:
    """Refuse to write a model's folder where something is already: nobody's folder is ever deleted here.

    Raises:
        StoreError: something is there. A single file is replaced at the end, as files are.
    """
    if str(model) != "playground" and os.path.isfile(typed_path(model)):
        return
    for path in paths:
        if path.exists():
            raise StoreError(f"Cannot save {path.name!r} in {path.parent}: it is there already. Choose another name.")


def _folder(model: str | PathLike[str], path: Path, change: Change, whole: Callable[[], None]) -> Path:
    require_new(model, path)
    pipeline = load_pipeline(str(model), torch.float32).pipeline
    with torch.no_grad():
        for name, parameter in pipeline.unet.named_parameters():
            parameter.copy_(change(name, parameter.data))
    whole()
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.half()
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.mkdtemp(prefix=".palate-", dir=path.parent)
        pipeline.save_pretrained(temporary)
        os.chmod(temporary, 0o755)
        os.replace(temporary, path)
    except Exception as error:  # a full disk is another error in each library that writes here
        shutil.rmtree(temporary, ignore_errors=True)
        raise StoreError(
            f"Cannot save {path.name!r} in {path.parent}: {error}; expected a folder with room that can be written. "
            "Choose another folder or name."
        ) from error
    return path


def _single_file(source: Path, path: Path, change: Change, whole: Callable[[], None]) -> Path:
    from safetensors import safe_open

    shapes = read_shapes(source)
    checkpoint_family(source, shapes)
    diffusers = _diffusers_names(shapes)
    # Names first: what doesn't fit is said before a byte is written.
    with safe_open(str(source), framework="pt") as file:
        for key, name in diffusers.items():
            change(name, torch.empty(shapes[key], device="meta"))
        whole()
        kinds = {key: _kind(file.get_slice(key).get_dtype()) for key in shapes}
        metadata = {**(file.metadata() or {}), "modelspec.title": path.stem}

        def tensors() -> Iterator[bytes]:
            for key in shapes:
                value = file.get_tensor(key)
                if key in diffusers:
                    value = change(diffusers[key], value)
                if kinds[key] == "F16":
                    value = value.half()
                yield value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()

        return write_bytes_atomically(path, _with_header(shapes, kinds, metadata, tensors()))


def _with_header(
    shapes: Mapping[str, tuple[int, ...]], kinds: Mapping[str, str], metadata: Mapping[str, str], data: Iterator[bytes]
) -> Iterator[bytes]:
    """The bytes of a safetensors file, one tensor after the other."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for key, shape in shapes.items():
        start = end
        end += _WIDTHS[kinds[key]] * torch.Size(shape).numel()
        header[key] = {"dtype": kinds[key], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little")
    yield text
    yield from data


def _kind(found: str) -> str:
    """Floats of all kinds become float16; whole numbers stay what they are."""
    return found if found in _WIDTHS else "F16"


def _diffusers_names(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """diffusers' name of each of the denoiser's tensors, by its name in the file.

    diffusers' own converter says it: it is given the names in the place of the tensors.
    """
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    config: dict[str, Any] = {"layers_per_block": 2}
    if any(key.startswith(f"{UNET}label_emb.") for key in shapes):
        config["addition_embed_type"] = "text_time"
    keys = [key for key in shapes if key.startswith(UNET)]
    found = convert_ldm_unet_checkpoint({key: key for key in keys}, config)
    return {key: name for name, key in found.items()}
