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
from ..files.lora_file import halves_in, layers_in, load_lora_file
from ..files.writing import write_bytes_atomically
from ..places import typed_path
from ..steering.checkpoint_kind import UNET, checkpoint_family, read_shapes
from ..steering.joint import is_joint, load_joint
from ..steering.joint_parts import Part, denoiser_in
from ..steering.joint_reading import places_of
from ..steering.pipelines import load_pipeline, pipeline_kind

__all__ = ["merge_lora", "require_new", "save_checkpoint"]

Change = Callable[[str, Tensor], Tensor]  # from a denoiser's parameter, by diffusers' name, to what takes its place
_WIDTHS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1}  # bytes of a number
_WIDTHS |= {"I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


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
        found = halves_in(tensors, name.removesuffix(".weight")) if name.endswith(".weight") else None
        if found is None:
            return value
        used.add(found.name)
        shape = (found.up.shape[0], found.down.shape[1])
        if shape != tuple(value.shape):
            raise FileFormatError(
                f"Cannot merge {name_of_file!r}: its layer {found.name} is for {shape}, this model's is "
                f"{tuple(value.shape)}. Take the model that it was trained on."
            )
        down, up = (half.to(value.device).float() for half in (found.down, found.up))
        return value.float() + strength * found.scale * (up @ down)

    def whole() -> None:
        missing = layers_in(tensors) - used
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
    require_new(model, typed_path(path))
    if _is_file(model):
        return _single_file(typed_path(model), _ended(typed_path(path)), change, whole)
    return _folder(model, typed_path(path), change, whole)


def _is_file(model: str | PathLike[str]) -> bool:
    return str(model) != "playground" and os.path.isfile(typed_path(model))


def _ended(path: Path) -> Path:
    return path if path.suffix == ".safetensors" else path.with_name(f"{path.name}.safetensors")


def require_new(model: str | PathLike[str], *paths: Path) -> None:
    """Refuse to write a model's folder where something is already, and a single file over the model itself.

    Raises:
        StoreError: something is there; nobody's folder is ever deleted here. Another single file is replaced at the
            end, as files are.
    """
    if _is_file(model):
        paths, source = tuple(_ended(path) for path in paths), typed_path(model).resolve()
        taken = next((path for path in paths if path.resolve() == source), None)
        why = "it is the model itself"
    else:
        taken, why = next((path for path in paths if path.exists()), None), "it is there already"
    if taken is not None:
        raise StoreError(f"Cannot save {taken.name!r} in {taken.parent}: {why}. Choose another name.")


def _folder(model: str | PathLike[str], path: Path, change: Change, whole: Callable[[], None]) -> Path:
    pipeline, denoiser, half = _loaded(model)
    with torch.no_grad():
        for name, parameter in denoiser.named_parameters():
            parameter.copy_(change(name, parameter.data))
    whole()
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.to(half)
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


def _loaded(model: str | PathLike[str]) -> tuple[Any, Any, torch.dtype]:
    """A pipeline, its denoiser, and the half precision that it is saved in."""
    where = str(model)
    kind = pipeline_kind(where)
    if is_joint(kind):  # in bfloat16, as Flux comes: in float16 its T5 overflows, and in float32 it is 60 GB
        joint = load_joint(where, kind, torch.bfloat16)
        return joint.pipeline, joint.denoiser, torch.bfloat16
    pipeline = load_pipeline(where, torch.float32).pipeline
    return pipeline, pipeline.unet, torch.float16


def _single_file(source: Path, path: Path, change: Change, whole: Callable[[], None]) -> Path:
    from safetensors import safe_open

    if (denoiser := denoiser_in(source)) is not None:
        return _joint_file(denoiser, path, change, whole)
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


def _joint_file(denoiser: Part, path: Path, change: Change, whole: Callable[[], None]) -> Path:
    """The same of SD3 and Flux: what is beside the denoiser stays to the bit; float8 becomes bfloat16."""
    from safetensors import safe_open

    shapes = read_shapes(denoiser.path)
    places = places_of(denoiser)
    for name, shape in places.shapes.items():
        change(name, torch.empty(shape, device="meta"))
    whole()
    with safe_open(str(denoiser.path), framework="pt") as file:
        kinds = {key: str(file.get_slice(key).get_dtype()) for key in shapes if key not in places.left_out}
        kinds |= {key: "F16" if kinds[key] == "F16" else "BF16" for key in places.keys}
        metadata = {**(file.metadata() or {}), "modelspec.title": path.stem}

        def tensors() -> Iterator[bytes]:
            for key in kinds:
                value = file.get_tensor(key)
                if key in places.keys:
                    value = places.changed(file, key, change)
                    value = value.half() if kinds[key] == "F16" else value.bfloat16()
                yield value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()

        return write_bytes_atomically(
            path, _with_header({key: shapes[key] for key in kinds}, kinds, metadata, tensors())
        )


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
    return "F16" if found.startswith(("F", "BF")) else found


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
