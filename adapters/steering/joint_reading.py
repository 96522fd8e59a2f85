"""Weights of SD3's and Flux's single files, a tensor at a time, by their own names or by diffusers'."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .checkpoint_kind import Shapes
from .joint_layout import Rows, layout_of
from .joint_parts import Part

__all__ = ["Places", "places_of", "read_rows", "require_floats", "weights_of"]

_FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")
_SCALES = ("scale_weight", "weight_scale")  # beside a float8 `weight`: what it is multiplied with
_NOT_WEIGHTS = (*_SCALES, "scale_input", "input_scale", "scaled_fp8", "comfy_quant")
_ALL = slice(None)


@dataclass(frozen=True, eq=False)
class Places:
    """Where a denoiser's tensors are in its file.

    Attributes:
        part: The denoiser. rows: For each of diffusers' names what it is of. shapes: By diffusers' names.
        keys: By the file's names, diffusers' names of what is in each.
        left_out: The file's names of scales, which are applied.
    """

    part: Part
    rows: Mapping[str, list[Rows]]
    shapes: Shapes
    keys: Mapping[str, list[str]]
    left_out: frozenset[str]

    def read(self, file: Any, name: str, dtype: torch.dtype) -> Tensor:
        """One tensor by diffusers' name, from the file as `safe_open` has opened it."""
        found = [
            read_rows(file, self.part, one.name, slice(one.first, one.end)).to(dtype, copy=True)
            for one in self.rows[name]
        ]
        return found[0] if len(found) == 1 else torch.cat(found)

    def changed(self, file: Any, key: str, change: Callable[[str, Tensor], Tensor]) -> Tensor:
        """One tensor by the file's name, with what `change` makes of those of diffusers' that are in it."""
        value = read_rows(file, self.part, key.removeprefix(self.part.start)).float()
        for name in self.keys[key]:
            new, at = change(name, self.read(file, name, torch.float32)), 0
            for one in self.rows[name]:
                count = one.end - one.first
                if self.part.start + one.name == key:
                    value[one.first : one.end] = new[at : at + count]
                at += count
        return value


def places_of(part: Part) -> Places:
    """Return where a denoiser's tensors are.

    Raises:
        KeyError: one is missing.
    """
    weights = weights_of(part)
    rows = layout_of(part.family, weights)
    shapes, keys = {}, dict[str, list[str]]()
    for name, pieces in rows.items():
        shapes[name] = (sum(one.end - one.first for one in pieces), *weights[pieces[0].name][1:])
        for one in pieces:
            keys.setdefault(part.start + one.name, []).append(name)
    keys = {key: list(dict.fromkeys(names)) for key, names in keys.items()}
    return Places(part, rows, shapes, keys, frozenset(part.start + name for name in part.shapes if name not in weights))


def weights_of(part: Part) -> dict[str, tuple[int, ...]]:
    """Shapes of a part's weights, without what says how they are stored."""
    return {name: shape for name, shape in part.shapes.items() if not name.endswith(_NOT_WEIGHTS)}


def read_rows(file: Any, part: Part, name: str, rows: slice = _ALL) -> Tensor:
    """Read rows of a part's tensor from its file, float8 as what it stands for."""
    key = part.start + name
    value: Tensor = file.get_tensor(key) if rows == _ALL else file.get_slice(key)[rows]
    if value.element_size() > 1 or not name.endswith(".weight"):
        return value
    value = value.float()
    for ending in _SCALES:
        scale = f"{name.removesuffix('weight')}{ending}"
        if scale in part.shapes:
            factor = file.get_tensor(part.start + scale).float().flatten()  # one for all, or one for each row
            value = value * (factor[rows] if len(factor) > 1 else factor).view(-1, *[1] * (value.ndim - 1))
    return value


def require_floats(part: Part) -> None:
    """Refuse numbers that are packed in another way, such as four bits each.

    Raises:
        ValueError: some are.
    """
    from safetensors import safe_open

    with safe_open(str(part.path), framework="pt") as file:
        for name in weights_of(part):
            kind = str(file.get_slice(part.start + name).get_dtype())
            if name.endswith(".weight") and kind not in _FLOATS:
                raise ValueError(f"{name} is in {kind}, which can't be trained on: take the file in fp16, bf16 or fp8")
