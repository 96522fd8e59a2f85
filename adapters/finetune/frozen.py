"""Frozen convolutions that keep nothing for the backward pass.

torch's keep what comes in, which only their own weights' gradient would need; that of what comes in needs the weights
alone. Source: the backward pass as torch.nn.grad.conv2d_input asks for it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["forget_inputs"]


def forget_inputs(denoiser: nn.Module) -> None:
    """Have a denoiser's convolutions keep nothing where their weights are frozen. Outcomes and gradients are the same.

    Which of them that are is seen at each call, so it may be asked for before or after what is trained is known, and
    nothing has to be undone. Convolutions that carry an adapter of peft's stay as they are.

    Args:
        denoiser: Any model; only its `torch.nn.Conv2d` are changed, in place.
    """
    for name, module in denoiser.named_modules():
        if type(module) is nn.Conv2d and name.rpartition(".")[2] != "base_layer":
            module.__class__ = _Forgetful  # its name, its weights and its hooks stay; copies are such ones, too


class _Forgetful(nn.Conv2d):
    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if _only_the_input_is_asked(self, input, weight, bias):
            found: Tensor = _Convolved.apply(input, self, weight, bias)
        else:
            found = super()._conv_forward(input, weight, bias)
        return found


def _only_the_input_is_asked(layer: nn.Conv2d, given: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """And a stand-in for it, which has no layout, is as good to torch's choice of a kernel."""
    return (
        torch.is_grad_enabled()
        and given.requires_grad
        and not weight.requires_grad
        and not (bias is not None and bias.requires_grad)
        and given.dim() == 4
        and given.is_contiguous()
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    )


class _Convolved(torch.autograd.Function):
    """A convolution of (B, C, h, w) whose backward pass gives the gradient of what came in, and no other."""

    @staticmethod
    def forward(ctx: Any, given: Tensor, layer: nn.Conv2d, weight: Tensor, bias: Tensor | None) -> Tensor:
        padding: Any = layer.padding  # no word: those go torch's way
        ctx.how = (layer.stride, padding, layer.dilation, False, [0, 0], layer.groups, (True, False, False))
        ctx.shape, ctx.dtype, ctx.biases = given.shape, given.dtype, None if bias is None else list(bias.shape)
        # Not by `save_for_backward`: a checkpoint would compute this layer again only to find its own weights.
        ctx.weight, ctx.version = weight, weight._version
        # Autocast does its part in here.
        return F.conv2d(given, weight, bias, layer.stride, padding, layer.dilation, layer.groups)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        if ctx.weight._version != ctx.version:
            raise RuntimeError(
                "Cannot go backwards through a frozen convolution: its weights were changed since the forward pass."
            )
        weight = ctx.weight.to(gradient.dtype)  # as autocast did
        nothing = gradient.new_empty(1).expand(ctx.shape)
        found = torch.ops.aten.convolution_backward(gradient, nothing, weight, ctx.biases, *ctx.how)[0]
        return found.to(ctx.dtype), None, None, None
