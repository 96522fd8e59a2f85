"""Where a user enters a UNet of ComfyUI's family of hosts: its cross-attentions, under diffusers' names.

ComfyUI, Forge and reForge keep the module tree of the first Stable Diffusion: `input_blocks`, `middle_block`,
`output_blocks`. diffusers has levels instead. Where a level ends is seen in the tree: there is a module that makes the
picture smaller (`op`) or larger (`conv`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..errors import PPDError
from .layers import LayerShape

__all__ = ["HostLayer", "host_layers"]

_ATTENTION = re.compile(r"^(input|output)_blocks\.(\d+)\.\d+\.transformer_blocks\.(\d+)\.attn2$")
_MIDDLE = re.compile(r"^middle_block\.\d+\.transformer_blocks\.(\d+)\.attn2$")
_SIDES = (("input", "down_blocks", re.compile(r"\.\d+\.op$")), ("output", "up_blocks", re.compile(r"\.\d+\.conv$")))


@dataclass(frozen=True)
class HostLayer:
    """One cross-attention of a host's denoiser.

    Attributes:
        shape: Under diffusers' name.
        block: What the host calls it while it runs: "input", "middle" or "output", number, transformer.
        path: Of its module in the denoiser.
    """

    shape: LayerShape
    block: tuple[str, int, int]
    path: str


def host_layers(denoiser: Any) -> tuple[tuple[HostLayer, ...], int]:
    """Find the cross-attentions of a denoiser.

    Args:
        denoiser: A host's UNet of SD1.x, SD2.x or SDXL; only looked at.

    Returns:
        The layers in the order of diffusers' attention processors, and the width of the text tokens that they take.

    Raises:
        PPDError: there are none; it names the class and what has some.
    """
    modules = {name: module for name, module in denoiser.named_modules() if name}
    found = [HostLayer(_shape(name, modules[path]), block, path) for path, name, block in _places(list(modules))]
    if not found:
        raise PPDError(
            f"Cannot apply a user: found no cross-attention to text in a denoiser of class {type(denoiser).__name__}; "
            "expected a UNet of SD1.x, SD2.x or SDXL, or the playground's. Load a checkpoint of the family that the "
            "PPD was trained for."
        )
    return tuple(found), int(modules[found[0].path].to_k.in_features)


def _places(names: list[str]) -> Iterator[tuple[str, str, tuple[str, int, int]]]:
    """(path, diffusers' name, block): down, up, middle."""
    for side, levels, ends in _SIDES:
        numbers = {int(name.split(".")[1]) for name in names if name.startswith(f"{side}_blocks.")}
        level = place = 0
        for number in sorted(numbers - {0} if side == "input" else numbers):  # the first one only takes the latents in
            here = [name for name in names if name.startswith(f"{side}_blocks.{number}.")]
            for path, transformer in _transformers(here):
                name = f"{levels}.{level}.attentions.{place}.transformer_blocks.{transformer}.attn2"
                yield path, name, (side, number, transformer)
            place += 1
            if any(ends.search(name) for name in here):
                level, place = level + 1, 0
    for name in names:
        if found := _MIDDLE.match(name):
            # The middle block's number is the place of its transformer; while it runs the hosts call it 0.
            transformer = int(found[1])
            yield name, f"mid_block.attentions.0.transformer_blocks.{transformer}.attn2", ("middle", 0, transformer)


def _transformers(names: list[str]) -> list[tuple[str, int]]:
    return [(found[0], int(found[3])) for name in names if (found := _ATTENTION.match(name))]


def _shape(name: str, attention: Any) -> LayerShape:
    heads, inner = int(attention.heads), int(attention.heads * attention.dim_head)
    return LayerShape(name, int(attention.to_q.in_features), inner, heads, int(attention.to_out[0].out_features))
