"""What a denoiser keeps for its backward pass, counted tensor by tensor in a run without weights.

Source: of the way to count, torch.autograd.graph.saved_tensors_hooks.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["kept_for_backward"]


def kept_for_backward(unet: Any, images: int, size: int, tokens: int, dtype: torch.dtype, checkpointing: bool) -> int:
    """Return the bytes kept at the most while a batch goes forwards and backwards; weights are not counted.

    Args:
        unet: diffusers' UNet2DConditionModel on the meta device, with what is trained marked so. It is changed.
        images: Of the batch, each of `size` squared pixels with a prompt of so many tokens.
        dtype: Of forward passes.
        checkpointing: Whether layers are computed again in the backward pass.
    """
    torch.nn.Module.to(unet, dtype)
    unet.set_attn_processor(_Processor())
    unet.train()
    if checkpointing:
        unet.enable_gradient_checkpointing()
    config, side = unet.config, size // 8
    more: dict[str, Any] = {}
    if config.get("addition_embed_type") == "text_time":
        wide = int(config["projection_class_embeddings_input_dim"]) - 6 * int(config["addition_time_embed_dim"])
        added = {"text_embeds": (images, wide), "time_ids": (images, 6)}
        conditions = {name: torch.empty(shape, device="meta", dtype=dtype) for name, shape in added.items()}
        more["added_cond_kwargs"] = conditions
    noisy = torch.empty(images, int(config["in_channels"]), side, side, device="meta", dtype=dtype)
    text = torch.empty(images, tokens, int(config["cross_attention_dim"]), device="meta", dtype=dtype)
    own = {value.untyped_storage()._cdata for value in [*unet.parameters(), *unet.buffers()]}
    held = _Held(own)
    steps = torch.empty(images, device="meta", dtype=torch.long)
    with torch.autograd.graph.saved_tensors_hooks(held.take, lambda kept: kept.tensor):
        out = unet(noisy, steps, encoder_hidden_states=text, **more).sample
        out.square().mean().backward()
    return held.most


class _Held:
    """Counts the bytes of what is kept, and their most."""

    def __init__(self, own: set[int]) -> None:
        self.own, self.now, self.most = own, 0, 0
        self._seen: dict[int, int] = {}

    def take(self, tensor: Tensor) -> _Kept:
        kept = _Kept(self, tensor)
        if kept.key not in self.own:
            self._seen[kept.key] = self._seen.get(kept.key, 0) + 1
            if self._seen[kept.key] == 1:
                self.now += kept.bytes
                self.most = max(self.most, self.now)
        return kept

    def let_go(self, kept: _Kept) -> None:
        if kept.key in self._seen:
            self._seen[kept.key] -= 1
            if not self._seen[kept.key]:
                del self._seen[kept.key]
                self.now -= kept.bytes


class _Kept:
    """One tensor that a layer keeps; views of one memory count once."""

    def __init__(self, held: _Held, tensor: Tensor) -> None:
        self.held, self.tensor = held, tensor
        storage = tensor.untyped_storage()
        self.key, self.bytes = storage._cdata, storage.nbytes()

    def __del__(self) -> None:
        self.held.let_go(self)


class _Attended(torch.autograd.Function):
    """Attention as GPUs and newer CPUs compute it: the weights of all places on all others are never in memory."""

    @staticmethod
    def forward(context: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        out = torch.empty_like(query)
        context.save_for_backward(query, key, value, out)
        return out

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        query, key, value, _ = context.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


class _Processor:
    """Stands for diffusers' attention in a run without weights."""

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, *_: Any, **__: Any
    ) -> Tensor:
        text = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        found: Tensor = _Attended.apply(attn.to_q(hidden_states), attn.to_k(text), attn.to_v(text))
        out: Tensor = attn.to_out[0](found)
        return out
