"""Numbers in, from numpy, torch or lists; the same kind out; and errors that say which ones are wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..errors import ShapeError
from .likelihood import Array

Matrix = Any  # numpy array, torch tensor or nested list


def to_array(name: str, values: Matrix) -> Array:
    """Return `values` as a numpy array of float32 or float64, without a copy where it is one already."""
    if isinstance(values, torch.Tensor):
        tensor = values.detach().cpu()
        if tensor.dtype not in (torch.float32, torch.float64):
            tensor = tensor.to(torch.float64)
        return np.asarray(tensor.numpy())
    try:
        array = np.asarray(values)
        if array.dtype not in (np.float32, np.float64):
            array = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ShapeError(
            f"Cannot use `{name}`: found {type(values).__name__} that is not a table of numbers; expected vectors, "
            "one per row, all of one width."
        ) from error
    return array


def to_matrix(name: str, values: Matrix, width: int | None = None) -> Array:
    """Return `values` as (N, D); an empty list becomes (0, width)."""
    array = to_array(name, values)
    if array.size == 0 and array.ndim < 2:
        array = array.reshape(0, width or 0)
    if array.ndim != 2:
        raise ShapeError(f"Cannot use `{name}`: found shape {array.shape}; expected (N, D), one vector per row.")
    if width is not None and array.shape[1] != width and array.size + array.shape[1] > 0:
        raise ShapeError(
            f"Cannot use `{name}`: its vectors have width {array.shape[1]}; expected {width} as the others. "
            "Encode all images with one encoder."
        )
    return array


def require_finite(name: str, array: Array) -> Array:
    """Return `array`; raise ShapeError that names the first row with NaN or infinity."""
    with np.errstate(all="ignore"):
        if np.isfinite(array.sum()):
            return array
    rows = np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(axis=1))
    if len(rows):
        found = "NaN" if np.isnan(array[rows[0]]).any() else "infinity"
        raise ShapeError(
            f"Cannot use `{name}`: row {rows[0]} holds {found}; expected finite numbers. Encode that image again."
        )
    return array


def like(array: Array | np.floating[Any], example: Matrix) -> Any:
    """Return `array` as the kind of `example`: a float64 torch tensor for a tensor, else numpy."""
    if isinstance(example, torch.Tensor):
        return torch.from_numpy(np.ascontiguousarray(array))
    return array
