"""One denoising step of Stable Diffusion's UNet at its true shapes, with what a user or an IP-Adapter adds to it.

On the device "meta" nothing is computed: shapes run through the very same code, and its multiplications are counted.

Shapes: rows = 2 * batch, the unconditional half first; K tokens, W their width.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from ..ppd.attention import UserAttention, attend
from ..ppd.layers import layers_of, width_of
from ..ppd.model import PPD
from ..ppd.processors import ConstantAnswer, Window, put_answers
from ._shapes import SHAPES

__all__ = ["ARMS", "MODELS", "Model", "Step", "arm", "build"]

_SEEN = 1024  # width of the image vectors of an IP-Adapter's CLIP ViT-H
_TEXT = 77  # text tokens


@dataclass(frozen=True)
class Model:
    """A UNet's configuration and the size of its latents."""

    title: str
    side: int
    config: Mapping[str, Any]


MODELS: Mapping[str, Model] = MappingProxyType(
    {
        "sd15": Model("SD1.5, 512 px", 64, {"sample_size": 64, **SHAPES["sd15"].unet}),
        "sdxl": Model("SDXL, 1024 px", 128, {"sample_size": 128, **SHAPES["sdxl"].unet}),
    }
)


@dataclass(frozen=True, eq=False)
class Step:
    """A UNet and what one step of it is given.

    Attributes:
        unet: diffusers'.
        latents: (rows, 4, side, side).
        more: Named arguments.
        ppd: User attention of this UNet.
        tokens: (K, W) of a user.
    """

    unet: Any
    latents: Tensor
    more: Mapping[str, Any]
    ppd: PPD
    tokens: Tensor

    def __call__(self) -> Tensor:
        """One step."""
        with torch.no_grad():
            out: Tensor = self.unet(self.latents, 500, return_dict=False, **self.more)[0]
        return out


def build(model: Model, device: str, batch: int, tokens: int) -> Step:
    """Make a UNet of random weights and the input of one guided step.

    Args:
        model: Which.
        device: "meta", "cpu" or "cuda"; float16 on the last.
        batch: Pictures; rows are twice as many.
        tokens: K.
    """
    from diffusers import UNet2DConditionModel

    precision = torch.float16 if device == "cuda" else torch.float32
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.manual_seed(0)
        unet = UNet2DConditionModel(**model.config).eval()
        unet = unet if precision == torch.float32 else unet.to(precision)
        width, rows = width_of(unet), 2 * batch
        attention = UserAttention(layers_of(unet), width, seed=None).to(device=device, dtype=precision)
        for parameter in attention.parameters():
            nn.init.normal_(parameter, std=0.02)
        more: dict[str, Any] = {"encoder_hidden_states": torch.randn(rows, _TEXT, width, dtype=precision)}
        if unet.config.addition_embed_type == "text_time":
            times = 6 * unet.config.addition_time_embed_dim
            pooled = unet.config.projection_class_embeddings_input_dim - times
            added = {"text_embeds": torch.randn(rows, pooled), "time_ids": torch.ones(rows, 6)}
            more["added_cond_kwargs"] = {name: tensor.to(precision) for name, tensor in added.items()}
        latents = torch.randn(rows, 4, model.side, model.side, dtype=precision)
        user = torch.randn(tokens, width, dtype=precision)
    return Step(unet.requires_grad_(False), latents, more, PPD(attention, None, "custom"), user)


@contextlib.contextmanager
def _bare(step: Step) -> Iterator[tuple[Step, int]]:
    yield step, 0


@contextlib.contextmanager
def _ours(step: Step) -> Iterator[tuple[Step, int]]:
    """As `use_user` does it: keys and values made once, both halves of guidance."""
    halves = torch.stack([torch.zeros_like(step.tokens), step.tokens])
    window = Window(0.0, 1.0, 999)
    answers = [ConstantAnswer(step.ppd, place, halves, 1.0, window) for place in range(len(step.ppd.attention.layers))]
    held = sum(2 * halves.shape[0] * len(step.tokens) * layer.inner for layer in step.ppd.attention.layers)
    with put_answers(step.unet, step.ppd, answers):
        yield step, held * step.latents.element_size()


@contextlib.contextmanager
def _folded(step: Step) -> Iterator[tuple[Step, int]]:
    """As ComfyUI's node does it: folded into the block's projections, added after it, in the conditional half."""
    hooks, held = [], 0
    for place, layer in enumerate(step.ppd.attention.layers):
        block = step.unet.get_submodule(layer.name)
        with torch.no_grad():
            folded = step.ppd.attention.fold(place, step.tokens, block.to_q.weight, block.to_out[0].weight)
        folded = folded.to(step.latents.device, step.latents.dtype)
        held += folded.keys.nbytes + folded.values.nbytes
        hooks.append(block.register_forward_hook(_adding(folded)))
    try:
        yield step, held
    finally:
        for hook in hooks:
            hook.remove()


def _projecting(block: Any, keys: Tensor, values: Tensor, heads: int) -> Callable[[Tensor], Tensor]:
    def answer(hidden: Tensor) -> Tensor:
        found: Tensor = attend(block.to_q(hidden), keys, values, heads) @ block.to_out[0].weight.T
        return found

    return answer


def _adding(answer: Callable[[Tensor], Tensor]) -> Callable[[Any, tuple[Tensor, ...], Tensor], Tensor]:
    def add(_: Any, given: tuple[Tensor, ...], out: Tensor) -> Tensor:
        uncond, cond = out.chunk(2)
        return torch.cat([uncond, cond + answer(given[0].chunk(2)[1])])

    return add


@contextlib.contextmanager
def _projected_again(step: Step) -> Iterator[tuple[Step, int]]:
    """Where ComfyUI's node adds it, but with query and output projection computed once more."""
    hooks, held = [], 0
    for place, layer in enumerate(step.ppd.attention.layers):
        block = step.unet.get_submodule(layer.name)
        with torch.no_grad():
            keys, values = step.ppd.attention.project(place, step.tokens[None])
        held += keys.nbytes + values.nbytes

        hooks.append(block.register_forward_hook(_adding(_projecting(block, keys, values, layer.heads))))
    try:
        yield step, held
    finally:
        for hook in hooks:
            hook.remove()


@contextlib.contextmanager
def _ip_adapter(step: Step) -> Iterator[tuple[Step, int]]:
    """diffusers' own IP-Adapter, base kind, its projector made for as many tokens."""
    from diffusers.models.embeddings import ImageProjection, MultiIPAdapterImageProjection

    unet, before = step.unet, dict(step.unet.attn_processors)
    rows, width = len(step.latents), step.tokens.shape[1]
    zeros = partial(torch.zeros, device=step.latents.device, dtype=step.latents.dtype)
    state = {
        f"{2 * place + 1}.to_{side}_ip.weight": zeros(layer.inner, width)
        for place, layer in enumerate(step.ppd.attention.layers)
        for side in "kv"
    }
    images = {"proj.weight": zeros(4 * width, _SEEN), "proj.bias": zeros(4 * width)}
    images |= {f"norm.{name}": zeros(width) for name in ("weight", "bias")}
    with torch.device(step.latents.device):
        unet._load_ip_adapter_weights({"image_proj": images, "ip_adapter": state}, low_cpu_mem_usage=False)
        projector = ImageProjection(_SEEN, width, len(step.tokens)).to(step.latents.dtype)
        unet.encoder_hid_proj = MultiIPAdapterImageProjection([projector]).requires_grad_(False)
    added = {**step.more.get("added_cond_kwargs", {}), "image_embeds": [zeros(rows, 1, _SEEN)]}
    held = sum(tensor.nbytes for tensor in state.values()) + sum(p.nbytes for p in projector.parameters())
    try:
        yield Step(unet, step.latents, {**step.more, "added_cond_kwargs": added}, step.ppd, step.tokens), held
    finally:
        unet.set_attn_processor(before)
        unet.encoder_hid_proj, unet.config.encoder_hid_dim_type = None, None


ARMS: Mapping[str, Callable[[Step], contextlib.AbstractContextManager[tuple[Step, int]]]] = MappingProxyType(
    {
        "the bare model": _bare,
        "a user, in diffusers": _ours,
        "a user, folded as in ComfyUI": _folded,
        "the same, projected again": _projected_again,
        "an IP-Adapter, diffusers' own": _ip_adapter,
    }
)


def arm(name: str, step: Step) -> contextlib.AbstractContextManager[tuple[Step, int]]:
    """Put one arm on a step's UNet while this lasts; gives the step and the bytes that it holds beside the model."""
    return ARMS[name](step)
