"""Frozen layers: their weights held in a byte each, where that is asked for, and little kept for the backward pass.

Source: of the backward pass, torch.nn.grad.conv2d_input; of one scale for each row of weights, Dettmers et al. 2022,
arXiv:2208.07339, without what they do for outliers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .recomputed import compute_cheap_again, require_the_same, version_of

__all__ = ["forget_inputs", "hold_in_bytes", "in_bytes"]

_MOST = 127  # of a signed byte


def forget_inputs(denoiser: nn.Module) -> None:
    """Have a denoiser's convolutions keep nothing where their weights are frozen, and others of its layers no more than
    they must (`compute_cheap_again`). Outcomes and gradients are the same.

    Which of them that are is seen at each call, so it may be asked for before or after what is trained is known, and
    nothing has to be undone. Gradient checkpointing is asked for before, or some layers are computed once more.
    Convolutions that carry an adapter of peft's stay as they are.

    Args:
        denoiser: Any model of diffusers; it is changed in place.
    """
    compute_cheap_again(denoiser)
    for name, module in denoiser.named_modules():
        if type(module) is nn.Conv2d and name.rpartition(".")[2] != "base_layer":
            module.__class__ = _Forgetful  # its name, its weights and its hooks stay; copies are such ones, too


def hold_in_bytes(denoiser: nn.Module) -> None:
    """Hold the weights of a denoiser's linear layers and convolutions in a byte each, and a scale for each row.

    They are multiplied out at every use, forwards and backwards, and can't be changed: nothing is trained in them or
    fused into them, but a LoRA beside them can be. A layer without weights (on the meta device) turns those into bytes
    that it loads.

    Args:
        denoiser: Any model; only its `torch.nn.Linear` and `torch.nn.Conv2d` are changed, in place.
    """
    for name, module in denoiser.named_modules():
        held = _HELD.get(type(module))
        if held is not None and ".lora_" not in name:
            weight = module._parameters.pop("weight")
            assert weight is not None
            module.__class__ = held
            held._hold(module, weight.detach())


def in_bytes(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return weights (R, ...) as whole numbers -127 to 127 of the same shape in int8, and what one counts in each row:
    (R,) in the weights' own precision. Their product is the weights to half of a 127th of each row's largest.
    """
    rows = weight.detach().flatten(1).float()
    # Rounded before they are divided by: what they lack then is in the numbers.
    least = torch.finfo(weight.dtype).tiny  # a row of nothing stays nothing
    scales = rows.abs().amax(dim=1).div(_MOST).clamp_min(least).to(weight.dtype)
    numbers = (rows / scales.float()[:, None]).round().clamp(-_MOST, _MOST)
    return numbers.to(torch.int8).view(weight.shape), scales


class _Held(nn.Module):
    """A layer whose weights are bytes."""

    weight_bytes: Tensor
    weight_scales: Tensor

    def _hold(self, weight: Tensor) -> None:
        numbers, scales = in_bytes(weight)
        for name, value in (("weight_bytes", numbers), ("weight_scales", scales)):
            self._buffers.pop(name, None)
            self.register_buffer(name, value)

    @property
    def weight(self) -> Tensor:
        """Multiplied out: a new tensor at each call."""
        whole: Tensor = self.weight_bytes.to(self.weight_scales.dtype)
        return whole.mul_(self.weight_scales.view(-1, *[1] * (whole.ndim - 1)))

    def _load_from_state_dict(self, state: Mapping[str, Any], prefix: str, *more: Any) -> None:
        given = state.get(f"{prefix}weight")
        if given is not None:
            if given.shape != self.weight_bytes.shape:
                found, expected = tuple(given.shape), tuple(self.weight_bytes.shape)
                more[-1].append(f"size mismatch for {prefix}weight: {found}; expected {expected}")
                return
            # Where it has weights already, what comes is turned into their kind, as torch does it.
            self._hold(given if self.weight_bytes.is_meta else given.to(self.weight_scales))
            state = {name: value for name, value in state.items() if name != f"{prefix}weight"}
            state |= {f"{prefix}{name}": self._buffers[name] for name in ("weight_bytes", "weight_scales")}
        super()._load_from_state_dict(state, prefix, *more)


class _Forgetful(nn.Conv2d):
    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if _only_the_input_is_asked(self, input, weight, bias):
            found: Tensor = _Convolved.apply(input, weight, self, bias)
        else:
            found = super()._conv_forward(input, weight, bias)
        return found


class _HeldConvolution(_Held, _Forgetful):  # type: ignore[override]
    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        # In torch's own way the weights multiplied out would wait, which for another layout is what would be taken.
        return super()._conv_forward(input.contiguous(), weight, bias)


class _HeldLinear(_Held, nn.Linear):  # type: ignore[override]
    def forward(self, input: Tensor) -> Tensor:
        if torch.is_grad_enabled() and input.requires_grad and not (self.bias is not None and self.bias.requires_grad):
            found: Tensor = _Projected.apply(input, self)
            return found
        return F.linear(input, self.weight, self.bias)


_HELD: dict[type, Any] = {nn.Linear: _HeldLinear, nn.Conv2d: _HeldConvolution}


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
    def forward(ctx: Any, given: Tensor, weight: Tensor, layer: nn.Conv2d, bias: Tensor | None) -> Tensor:
        padding: Any = layer.padding  # no word: those go torch's way
        ctx.how = (layer.stride, padding, layer.dilation, False, [0, 0], layer.groups, (True, False, False))
        ctx.shape, ctx.dtype, ctx.biases = given.shape, given.dtype, None if bias is None else list(bias.shape)
        # Not by `save_for_backward`: a checkpoint would compute this layer again only to find its own weights.
        ctx.layer, ctx.version = layer, version_of(layer)
        # Autocast does its part in here.
        return F.conv2d(given, weight, bias, layer.stride, padding, layer.dilation, layer.groups)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        require_the_same(ctx)
        weight = ctx.layer.weight.to(gradient.dtype)  # as autocast did
        nothing = gradient.new_empty(1).expand(ctx.shape)
        found = torch.ops.aten.convolution_backward(gradient, nothing, weight, ctx.biases, *ctx.how)[0]
        return found.to(ctx.dtype), None, None, None


class _Projected(torch.autograd.Function):
    """A linear layer on (..., I) whose weights are held, likewise; torch's own would keep them multiplied out."""

    @staticmethod
    def forward(ctx: Any, given: Tensor, layer: _HeldLinear) -> Tensor:
        ctx.layer, ctx.version, ctx.dtype = layer, version_of(layer), given.dtype
        return F.linear(given, layer.weight, layer.bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        require_the_same(ctx)
        return (gradient @ ctx.layer.weight.to(gradient.dtype)).to(ctx.dtype), None
