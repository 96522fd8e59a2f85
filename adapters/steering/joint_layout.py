"""Where diffusers' tensors of an SD3 or Flux denoiser are in the original file, whose tensors hold several in one.

diffusers' own converters say it: in the place of each tensor they are given the numbers of its rows, and what they make
of them says which rows became what. Rows are counted in shares of a tensor, so that it holds for any width; the
converters themselves are for published widths alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch

from .checkpoint_kind import Shapes

__all__ = ["Rows", "layout_of"]

_ROWS = 7 * 3072  # of the tensor that diffusers' converter for Flux splits by numbers; all others it halves or thirds


@dataclass(frozen=True)
class Rows:
    """Some rows of a tensor, from `first` up to `end`; all of a tensor that has none."""

    name: str
    first: int
    end: int


def layout_of(family: str, shapes: Shapes) -> dict[str, list[Rows]]:
    """Return for each of diffusers' tensors the rows, in their order, that it is of.

    Args:
        family: "sd3" or "flux".
        shapes: Of the denoiser's tensors, by their names in the file without what they all start with.

    Raises:
        KeyError: one is missing.
    """
    names = tuple(sorted(name for name in shapes if not name.startswith("context_processor.")))
    found = {}
    for name, pieces in _shares(family, names).items():
        rows = []
        for source, first, end in pieces:
            count = shapes[source][0] if shapes[source] else 0
            rows.append(Rows(source, first * count // _ROWS, end * count // _ROWS))
        found[name] = rows
    return found


@lru_cache(maxsize=4)
def _shares(family: str, names: tuple[str, ...]) -> dict[str, list[tuple[str, int, int]]]:
    from diffusers.loaders import single_file_utils as diffusers

    convert = {
        "sd3": diffusers.convert_sd3_transformer_checkpoint_to_diffusers,
        "flux": diffusers.convert_flux_transformer_checkpoint_to_diffusers,
    }[family]
    rows = torch.arange(_ROWS, dtype=torch.int32)
    numbers = {name: rows + number * _ROWS for number, name in enumerate(names)}
    return {name: _pieces(given, names) for name, given in convert(numbers, config={}).items()}


def _pieces(rows: torch.Tensor, names: tuple[str, ...]) -> list[tuple[str, int, int]]:
    """Runs of rows that follow each other in one tensor."""
    breaks = [*((rows.diff() != 1) | (rows[1:] % _ROWS == 0)).nonzero().flatten().add(1).tolist(), len(rows)]
    found, begin = [], 0
    for end in breaks:
        number, first = divmod(int(rows[begin]), _ROWS)
        found.append((names[number], first, first + end - begin))
        begin = end
    return found
