"""What a denoiser keeps for its backward pass, counted tensor by tensor in a run without weights.

Source: of the way to count, torch.autograd.graph.saved_tensors_hooks.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from .frozen import forget_inputs
from .predicting import predicted
from .sparing import ATTENTION, Outcomes

__all__ = ["UNET_CLASS", "class_of", "kept_for_backward", "without_weights"]

UNET_CLASS = "UNet2DConditionModel"
# What `Outcomes` keeps is counted as it is kept; newer versions of torch would have it counted once more.
_PAST_HOOKS: dict[str, Any] = (
    {"respect_saved_tensors_hooks": False} if "respect_saved_tensors_hooks" in signature(checkpoint).parameters else {}
)
_CHUNK, _T5 = 77, 256  # tokens of a prompt


def class_of(config: Mapping[str, Any]) -> str:
    """Return the class of diffusers that a denoiser's configuration is of; a UNet's where it doesn't say."""
    return str(config.get("_class_name") or UNET_CLASS)


def without_weights(config: Mapping[str, Any]) -> Any:
    """Build a denoiser by its configuration, on the meta device."""
    import diffusers

    with torch.device("meta"):
        return getattr(diffusers, class_of(config)).from_config(dict(config))


def kept_for_backward(
    denoiser: Any,
    images: int,
    size: int,
    dtype: torch.dtype,
    checkpointing: bool,
    outcomes: bool = False,
    forgetful: bool = True,
) -> int:
    """Return the bytes kept at the most while a batch goes forwards and backwards; weights are not counted.

    Args:
        denoiser: One of those that `predicted` takes but Stable Cascade's, on the meta device, with what is trained
            marked so. It is changed.
        images: Of the batch, each of `size` squared pixels.
        dtype: Of forward passes.
        checkpointing: Whether layers are computed again in the backward pass.
        outcomes: Whether those are not that `Outcomes` names.
        forgetful: Whether layers keep as little as `forget_inputs` has them keep.
    """
    torch.nn.Module.to(denoiser, dtype)
    if type(denoiser).__name__ == UNET_CLASS:
        denoiser.set_attn_processor(_Processor())
    denoiser.train()
    given = _given(denoiser, images, size // 8, dtype)
    own = {value.untyped_storage()._cdata for value in [*denoiser.parameters(), *denoiser.buffers()]}
    held = _Held(own)
    if checkpointing:
        denoiser.enable_gradient_checkpointing(_Again(held if outcomes else None))
    if forgetful:
        forget_inputs(denoiser)
    with _JointlyAttended(), torch.autograd.graph.saved_tensors_hooks(held.take, lambda kept: kept.tensor):
        torch.autograd.backward(predicted(denoiser, *given).square().mean())
    return held.most


def _given(
    denoiser: Any, images: int, side: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """What `predicted` is given for `images` pictures whose latents have this side."""

    def like(*shape: int, kind: torch.dtype = dtype) -> Tensor:
        return torch.empty(images, *shape, device="meta", dtype=kind)

    config, kind = denoiser.config, type(denoiser).__name__
    told, pooled, sizes = like(kind=torch.float32), None, None
    if kind == UNET_CLASS:
        channels, tokens = int(config["in_channels"]), like(_CHUNK, int(config["cross_attention_dim"]))
        if config.get("addition_embed_type") == "text_time":
            width = int(config["projection_class_embeddings_input_dim"]) - 6 * int(config["addition_time_embed_dim"])
            pooled, sizes = like(width), like(6)
    else:
        flux = kind == "FluxTransformer2DModel"  # whose tokens are of two by two places
        side += side % 2
        channels = int(config["in_channels"]) // (4 if flux else 1)
        tokens = like(_T5 if flux else _CHUNK + _T5, int(config["joint_attention_dim"]))
        pooled = like(int(config["pooled_projection_dim"]))
    return like(channels, side, side), told, tokens, pooled, sizes


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
                self.add(kept.bytes)
        return kept

    def add(self, count: int) -> None:
        self.now += count
        self.most = max(self.most, self.now)

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


class _Again:
    """Has a block's layers computed again in the backward pass, as `computed_again` or, without `held`, all of them."""

    def __init__(self, held: _Held | None) -> None:
        self._held = held

    def __call__(self, block: Any, *given: Any) -> Any:
        return checkpoint(block, *given, use_reentrant=False, context_fn=self._contexts, **_PAST_HOOKS)

    def _contexts(self) -> tuple[Any, Any]:
        if self._held is None:
            return contextlib.nullcontext(), _JointlyAttended()
        contexts: Any = create_selective_checkpoint_contexts
        first, again = contexts(_Counted(self._held))
        return first, _jointly(again)


@contextlib.contextmanager
def _jointly(again: Any) -> Iterator[None]:
    """The backward pass forgets modes."""
    with again, _JointlyAttended():
        yield


class _Counted(Outcomes):
    """Counts what is kept, until it is asked for."""

    def __init__(self, held: _Held) -> None:
        super().__init__()
        self._held = held

    def __call__(self, context: Any, operation: Any, *given: Any, **more: Any) -> CheckpointPolicy:
        found = super().__call__(context, operation, *given, **more)
        if found is CheckpointPolicy.MUST_SAVE:
            size = _bytes_of_attention(given[0]) if operation is ATTENTION else _bytes_of_convolution(*given)
            self._held.add(-size if context.is_recompute else size)
        return found


def _bytes_of_attention(query: Tensor) -> int:
    """Of its outcome, and of one float32 for each place."""
    return query.numel() * query.element_size() + 4 * query[..., 0].numel()


def _bytes_of_convolution(
    given: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, *_: Any
) -> int:
    sides = zip(given.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
    places = math.prod(
        (side + 2 * edge - apart * (kernel - 1) - 1) // step + 1 for side, kernel, step, edge, apart in sides
    )
    return int(places) * len(given) * len(weight) * given.element_size()


class _JointlyAttended(TorchFunctionMode):
    """Has what calls torch's attention by its name, as transformers do, attend as GPUs and processors do: the weights
    of all places on all others are never in memory."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if func is not torch.nn.functional.scaled_dot_product_attention:
            return func(*args, **given)
        query, key, value = (*args, *(given[name] for name in ("query", "key", "value")[len(args) :]))[:3]
        return ATTENTION(query, key, value)[0]


class _Processor:
    """Stands for diffusers' attention in a run without weights."""

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, *_: Any, **__: Any
    ) -> Tensor:
        text = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        heads = [
            layer(given).unflatten(2, (attn.heads, -1)).transpose(1, 2)
            for layer, given in ((attn.to_q, hidden_states), (attn.to_k, text), (attn.to_v, text))
        ]
        out: Tensor = attn.to_out[0](ATTENTION(*heads)[0].transpose(1, 2).flatten(2))
        return out
