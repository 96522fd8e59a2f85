"""A user in denoisers without an attention to text alone: Stable Cascade's stage C, SD3 and Flux.

Text and picture are attended to jointly there, and ComfyUI calls no patches inside: those of a DiT stand around whole
blocks, stage C has none. So for the time of each call of the denoiser two of PyTorch's hooks stand at every block: one
looks at the picture's own query, before positions turn it, the other adds what the user's tokens answer to it just
before the picture's own output projection (`adapters/ppd/cascade.py`, `adapters/ppd/dit.py`). Nothing is replaced, so
LoRAs, block patches of others and further users stay, in any order; after the call nothing is left.

Shapes: B rows, N places of the picture, K tokens, heads * d = inner. Imports nothing of ComfyUI.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from ..adapters.errors import PPDError
from ..adapters.ppd.attention import attend
from ..adapters.ppd.layers import LayerShape

__all__ = ["JointBlocks", "JointLayer", "joint_layers", "refuse_compiled"]

_COMPILED = "torch.compile"  # ComfyUI's key of what compiles a model


@dataclass(frozen=True)
class JointLayer:
    """One joint attention of ComfyUI's denoiser.

    Attributes:
        shape: Under diffusers' name.
        query: Path of the module that gives the picture's query, (B, N, inner), or (B, N, heads, d), or first of
            several (B, heads, N, d).
        out: Path of the picture's output projection.
    """

    shape: LayerShape
    query: str
    out: str


def joint_layers(denoiser: Any) -> tuple[tuple[JointLayer, ...], int]:
    """Find the joint attentions of a denoiser.

    Args:
        denoiser: ComfyUI's of stage C, SD3 or Flux; only looked at.

    Returns:
        The layers in diffusers' order, and the width of the text tokens that the model takes.

    Raises:
        PPDError: it isn't built as this knows it.
    """
    kind = type(denoiser).__name__
    try:
        if kind == "StageC":
            return _stage_c(denoiser)
        if kind == "Flux":
            layers = [_double(number, block.img_attn) for number, block in enumerate(denoiser.double_blocks)]
            return tuple(layers), int(denoiser.txt_in.in_features)
        layers = [_joint(number, block.x_block.attn) for number, block in enumerate(denoiser.joint_blocks)]
        return tuple(layers), int(denoiser.context_embedder.in_features)
    except (AttributeError, IndexError) as error:
        raise PPDError(
            f"Cannot apply a user: this ComfyUI builds its {kind} in another way ({error}); expected attention as in "
            "its versions of 2025 and 2026. Update Palate."
        ) from error


def refuse_compiled(denoiser: Any, wrappers: Any) -> None:
    """Refuse a denoiser that is compiled as a whole: it would not see the hooks, and draw for nobody without a word.

    Args:
        denoiser: ComfyUI's.
        wrappers: ComfyUI's of a model's calls (APPLY_MODEL), by key.

    Raises:
        PPDError: it is compiled.
    """
    if _COMPILED in (wrappers or {}) or hasattr(denoiser, "_orig_mod"):
        raise PPDError(
            "Cannot apply a user: this model is compiled, and compiled models of Stable Cascade, SD3 and Flux can't be "
            "looked into; expected one as it is. Take the node that compiles it (TorchCompileModel) out."
        )


class JointBlocks:
    """Users in all blocks of a denoiser while it is called.

    Args:
        layers: All joint attentions, in the order of the tokens' parts.
        strength: Factor of what a user adds.
    """

    def __init__(self, layers: Sequence[JointLayer], strength: float) -> None:
        self._layers, self._strength = tuple(layers), strength

    @contextlib.contextmanager
    def inside(self, denoiser: Any, whose: Callable[[int], Sequence[Any]]) -> Iterator[None]:
        """Let them act while this lasts.

        Args:
            denoiser: ComfyUI's.
            whose: (B) -> the tokens (`UserTokens`) that act on each of the B rows; None leaves a row as it is.
        """
        hooks = []
        try:
            for place, layer in enumerate(self._layers):
                look, add = self._pair(place, layer.shape, whose)
                hooks.append(denoiser.get_submodule(layer.query).register_forward_hook(look))
                hooks.append(denoiser.get_submodule(layer.out).register_forward_pre_hook(add))
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _pair(self, place: int, shape: LayerShape, whose: Callable[[int], Sequence[Any]]) -> tuple[Any, Any]:
        seen: list[Tensor] = []

        def look(_: Any, __: Any, answer: Any) -> None:
            query = answer[0].transpose(1, 2) if isinstance(answer, tuple) else answer
            seen[:] = [query.flatten(2)]

        def add(_: Any, given: tuple[Any, ...]) -> tuple[Any, ...] | None:
            query = seen.pop()
            runs = [list(run) for _, run in groupby(whose(len(query)), key=id)]
            if all(run[0] is None for run in runs):
                return None
            counts = [len(run) for run in runs]
            parts = zip(runs, query.split(counts), given[0].split(counts), strict=True)
            return torch.cat([self._added(place, shape, run[0], *part) for run, *part in parts]), *given[1:]

        return look, add

    def _added(self, place: int, shape: LayerShape, tokens: Any, query: Tensor, attended: Tensor) -> Tensor:
        if tokens is None:
            return attended
        keys, values = (side[place][None] for side in (tokens.keys, tokens.values))
        return attended + (self._strength * attend(query, keys, values, shape.heads)).to(attended.dtype)


def _stage_c(denoiser: Any) -> tuple[tuple[JointLayer, ...], int]:
    layers, width = [], 0
    for side in ("down_blocks", "up_blocks"):
        for i, level in enumerate(getattr(denoiser, side)):
            for j, block in enumerate(level):
                if not hasattr(block, "kv_mapper"):
                    continue
                name, attn = f"{side}.{i}.{j}.attention", block.attention.attn
                inner = int(attn.to_q.out_features)
                shape = LayerShape(name, int(attn.to_q.in_features), inner, int(attn.heads), attn.out_proj.out_features)
                layers.append(JointLayer(shape, f"{name}.attn.to_q", f"{name}.attn.out_proj"))
                width = int(block.kv_mapper[1].in_features)
    if not layers:
        raise PPDError(
            "Cannot apply a user: found no attention in this StageC; expected Stable Cascade's own, with some. Load "
            "another checkpoint."
        )
    return tuple(layers), width


def _double(number: int, attention: Any) -> JointLayer:
    return _fused(number, attention, f"double_blocks.{number}.img_attn", "norm")


def _joint(number: int, attention: Any) -> JointLayer:
    return _fused(number, attention, f"joint_blocks.{number}.x_block.attn", "ln_q")


def _fused(number: int, attention: Any, path: str, norm: str) -> JointLayer:
    getattr(attention, norm)
    inner = int(attention.qkv.out_features) // 3
    query, out = int(attention.qkv.in_features), int(attention.proj.out_features)
    shape = LayerShape(f"transformer_blocks.{number}.attn", query, inner, int(attention.num_heads), out)
    return JointLayer(shape, f"{path}.{norm}", f"{path}.proj")
