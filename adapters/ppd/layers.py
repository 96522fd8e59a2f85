"""Where a user enters a denoiser: its cross-attention layers and their widths.

The table of a PPD's layers is what a PPD and a model are held against before anything is patched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import PPDError

__all__ = ["LayerShape", "base_of", "layers_of", "standard_layers", "width_of"]


@dataclass(frozen=True)
class LayerShape:
    """One cross-attention.

    Attributes:
        name: diffusers' path, such as "down_blocks.0.attentions.0.transformer_blocks.0.attn2".
        query: Channels of the hidden state that asks.
        inner: Channels of query, key and value: heads times the width of a head.
        heads: Attention heads.
        out: Channels after the output projection.
    """

    name: str
    query: int
    inner: int
    heads: int
    out: int


# Published bases: block, its spatial transformers, transformer blocks in each, channels. In diffusers' order.
_BLOCKS = {
    "sd15": (
        ("down_blocks.0", 2, 1, 320),
        ("down_blocks.1", 2, 1, 640),
        ("down_blocks.2", 2, 1, 1280),
        ("up_blocks.1", 3, 1, 1280),
        ("up_blocks.2", 3, 1, 640),
        ("up_blocks.3", 3, 1, 320),
        ("mid_block", 1, 1, 1280),
    ),
    "sdxl": (
        ("down_blocks.1", 2, 2, 640),
        ("down_blocks.2", 2, 10, 1280),
        ("up_blocks.0", 3, 10, 1280),
        ("up_blocks.1", 3, 2, 640),
        ("mid_block", 1, 10, 1280),
    ),
}


def layers_of(unet: Any) -> tuple[LayerShape, ...]:
    """Return a UNet's cross-attention layers in the order of its `attn_processors`, which is IP-Adapter's numbering.

    Args:
        unet: diffusers' UNet2DConditionModel, on any device, "meta" too.

    Raises:
        PPDError: no such model.
    """
    return tuple(
        LayerShape(
            name, attention.to_q.in_features, attention.inner_dim, attention.heads, attention.to_out[0].out_features
        )
        for name, attention in _cross_attentions(unet)
    )


def width_of(unet: Any) -> int:
    """Return W, the width of the tokens that a UNet's cross-attention takes.

    Raises:
        PPDError: no such model.
    """
    return int(_cross_attentions(unet)[0][1].to_k.in_features)


def standard_layers(base: str) -> tuple[LayerShape, ...]:
    """Return the layers of a published base without loading it, in the order of `layers_of`.

    Args:
        base: "sd15" (16 layers) or "sdxl" (70).

    Raises:
        PPDError: another base.
    """
    if base not in _BLOCKS:
        raise PPDError(f"Cannot name the layers of {base!r}; expected one of {', '.join(_BLOCKS)}.")
    return tuple(
        LayerShape(
            f"{block}.attentions.{place}.transformer_blocks.{number}.attn2",
            query=channels,
            inner=channels,
            heads=8 if base == "sd15" else channels // 64,
            out=channels,
        )
        for block, places, depth, channels in _BLOCKS[base]
        for place in range(places)
        for number in range(depth)
    )


def base_of(layers: Sequence[LayerShape]) -> str:
    """Return which published base has these layers, or "" for none that is known."""
    return next((base for base in _BLOCKS if tuple(layers) == standard_layers(base)), "")


def _cross_attentions(unet: Any) -> list[tuple[str, Any]]:
    """The modules by name, at least one."""
    names = [name.removesuffix(".processor") for name in getattr(unet, "attn_processors", {})]
    found = [(name, unet.get_submodule(name)) for name in names if name.endswith(".attn2")]
    if not found:
        raise PPDError(
            f"Cannot put a user into a {type(unet).__name__}: found no cross-attention to text in it; expected a "
            "UNet2DConditionModel as Stable Diffusion 1.x, 2.x and XL have it. Load one of those."
        )
    return found
