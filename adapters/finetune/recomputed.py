"""Outcomes that cost little for their size, computed again in the backward pass in the place of being kept for it.

What a SiLU is given is a normed tensor, which waits beside the one that it was normed from; of a gated feed-forward all
of its two halves, the gate's GELU and both again wait. One of each is enough; and where the layer that makes the halves
is narrow, what goes into it is, an eighth of them. Gradients are the same bits.
Source: Chen et al. 2016, arXiv:1604.06174, section 4: of cheap operations.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["compute_cheap_again", "require_the_same", "version_of"]

# Channels: each two bytes of halves that aren't kept cost twice as many operations as the layer is wide. At Stable
# Diffusion 1.5's and XL's shapes such layers hold 26 and 9 % of what waits, for 4 and 2 % of a step.
_NARROW = 640
# On a tensor: what it was normed from, by which layer, and how often it had been changed by then.
_NORMED = "_palate_normed"


def compute_cheap_again(denoiser: nn.Module) -> None:
    """Have a UNet keep less, in place; other models have no such layers, and stay as they are.

    Where its blocks are computed again anyway (gradient checkpointing, asked for before), no layer of them is twice.
    """
    from diffusers.models.activations import GEGLU

    gated = _gated_class(not getattr(denoiser, "is_gradient_checkpointing", False))
    kinds = (GEGLU, _gated_class(True), _gated_class(False))
    for module in denoiser.modules():
        if type(module) is nn.GroupNorm:
            module.__class__ = _Norm
        elif type(module) is nn.SiLU:
            module.__class__ = _AfterNorm
        elif type(module) in kinds:
            module.__class__ = gated


class _Norm(nn.GroupNorm):
    """Tells whoever is given its outcome what that is of."""

    def forward(self, input: Tensor) -> Tensor:
        found = super().forward(input)
        if found.requires_grad and not any(parameter.requires_grad for parameter in self.parameters()):
            setattr(found, _NORMED, (input, self, found._version))
        return found


class _AfterNorm(nn.SiLU):
    def forward(self, input: Tensor) -> Tensor:
        of, norm, version = getattr(input, _NORMED, (None, None, None))
        if of is None or version != input._version or not torch.is_grad_enabled():  # changed in place it is another
            return super().forward(input)
        found: Tensor = _SiLUOfNormed.apply(input, of, norm)
        return found


class _SiLUOfNormed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, normed: Tensor, of: Tensor, norm: nn.GroupNorm) -> Tensor:
        ctx.save_for_backward(of)
        ctx.norm, ctx.dtype = norm, normed.dtype
        return F.silu(normed)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (of,) = ctx.saved_tensors
        norm, weight, bias = ctx.norm, ctx.norm.weight, ctx.norm.bias
        if of.dtype != ctx.dtype:  # autocast normed in another precision
            of, weight, bias = (None if one is None else one.to(ctx.dtype) for one in (of, weight, bias))
        normed = F.group_norm(of, norm.num_groups, weight, bias, norm.eps)
        return torch.ops.aten.silu_backward(gradient, normed), None, None


@lru_cache(maxsize=2)
def _gated_class(again: bool) -> type[nn.Module]:
    """diffusers is loaded by whoever has a denoiser."""
    from diffusers.models.activations import GEGLU

    class Gated(GEGLU):  # type: ignore[misc]
        def forward(self, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
            make = self.proj
            found: Tensor
            if again and hidden_states.requires_grad and _is_narrow_and_frozen(make):
                found = _GatedFrom.apply(hidden_states, make)
            else:
                found = _GatedHalves.apply(make(hidden_states))
            return found

    return Gated


def _is_narrow_and_frozen(layer: nn.Module) -> bool:
    return (
        isinstance(layer, nn.Linear)
        and layer.in_features <= _NARROW
        and not any(parameter.requires_grad for parameter in layer.parameters())
    )


def _gate(both: Tensor) -> Tensor:
    first, gate = both.chunk(2, dim=-1)
    return first * F.gelu(gate)


def _gate_backward(gradient: Tensor, both: Tensor) -> Tensor:
    first, gate = both.chunk(2, dim=-1)
    return torch.cat([gradient * F.gelu(gate), torch.ops.aten.gelu_backward(gradient * first, gate)], dim=-1)


class _GatedHalves(torch.autograd.Function):
    """(..., 2 H) to (..., H): the first half times the GELU of the second."""

    @staticmethod
    def forward(ctx: Any, both: Tensor) -> Tensor:
        ctx.save_for_backward(both)
        return _gate(both)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (both,) = ctx.saved_tensors
        return _gate_backward(gradient, both)


class _GatedFrom(torch.autograd.Function):
    """(..., C) to (..., H): the same of halves that a frozen layer makes, and makes again for their gradient."""

    @staticmethod
    def forward(ctx: Any, given: Tensor, layer: nn.Linear) -> Tensor:
        both = layer(given)
        # As the layer took it: autocast may have rounded it, and does nothing to it the second time.
        ctx.save_for_backward(given.to(both.dtype))
        ctx.layer, ctx.version, ctx.dtype = layer, version_of(layer), given.dtype
        return _gate(both)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        require_the_same(ctx)
        (given,) = ctx.saved_tensors
        weight, bias = ctx.layer.weight.to(given.dtype), ctx.layer.bias
        both = F.linear(given, weight, None if bias is None else bias.to(given.dtype))
        return (_gate_backward(gradient, both) @ weight).to(ctx.dtype), None


def version_of(layer: nn.Module) -> tuple[int, ...]:
    """Which changes in place to a layer's weights, or to their bytes, or to its bias count up."""
    held = getattr(layer, "weight_bytes", None)
    tensors = (layer.weight if held is None else held, layer.bias)
    return tuple(one._version for one in tensors if isinstance(one, Tensor))


def require_the_same(ctx: Any) -> None:
    """Refuse to go backwards through `ctx.layer` where it isn't of `ctx.version` any more."""
    if version_of(ctx.layer) != ctx.version:
        raise RuntimeError(
            "Cannot go backwards through a frozen layer: its weights were changed since the forward pass."
        )
