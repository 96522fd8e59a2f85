"""Outcomes that cost next to nothing, computed again in the backward pass in the place of being kept for it.

What a SiLU is given is a normed tensor, which waits beside the one that it was normed from; of a gated feed-forward all
of its two halves, the gate's GELU and both again wait. One of each is enough. Gradients are the same bits.
Source: Chen et al. 2016, arXiv:1604.06174, section 4: of cheap operations.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["compute_cheap_again"]

# On a tensor: what it was normed from, by which layer, and how often it had been changed by then.
_NORMED = "_palate_normed"


def compute_cheap_again(denoiser: nn.Module) -> None:
    """Have a UNet keep less, in place; other models have no such layers, and stay as they are."""
    from diffusers.models.activations import GEGLU

    for module in denoiser.modules():
        if type(module) is nn.GroupNorm:
            module.__class__ = _Norm
        elif type(module) is nn.SiLU:
            module.__class__ = _AfterNorm
        elif type(module) is GEGLU:
            module.__class__ = _gated_class()


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


@lru_cache(maxsize=1)
def _gated_class() -> type[nn.Module]:
    """diffusers is loaded by whoever has a denoiser."""
    from diffusers.models.activations import GEGLU

    class Gated(GEGLU):  # type: ignore[misc]
        def forward(self, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
            found: Tensor = _GatedHalves.apply(self.proj(hidden_states))
            return found

    return Gated


class _GatedHalves(torch.autograd.Function):
    """(..., 2 H) to (..., H): the first half times the GELU of the second."""

    @staticmethod
    def forward(ctx: Any, both: Tensor) -> Tensor:
        ctx.save_for_backward(both)
        first, gate = both.chunk(2, dim=-1)
        return first * F.gelu(gate)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (both,) = ctx.saved_tensors
        first, gate = both.chunk(2, dim=-1)
        return torch.cat([gradient * F.gelu(gate), torch.ops.aten.gelu_backward(gradient * first, gate)], dim=-1)
