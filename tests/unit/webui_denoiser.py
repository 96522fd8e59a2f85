"""Stand-ins of a web UI's denoiser and of what patches it, and a PPD and a user that fit them."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import torch
from palate.adapters.ppd.attention import UserAttention, attend
from palate.adapters.ppd.layers import LayerShape
from palate.adapters.ppd.model import PPD
from palate.adapters.ppd.user import User
from torch import Tensor

SHAPE = LayerShape("mid_block.attentions.0.transformer_blocks.0.attn2", 12, 8, 2, 12)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Attention(torch.nn.Module):
    heads, dim_head = 2, 4

    def __init__(self) -> None:
        super().__init__()
        self.to_q, self.to_k = torch.nn.Linear(12, 8, bias=False), torch.nn.Linear(6, 8, bias=False)
        self.to_out = torch.nn.Sequential(torch.nn.Linear(8, 12))
        for seed, weight in enumerate(self.parameters()):
            weight.requires_grad_(False).copy_(drawn(*weight.shape, seed=seed))


class Denoiser(torch.nn.Module):
    """One cross-attention between two lists of patches, as the hosts have it."""

    def __init__(self) -> None:
        super().__init__()
        block = torch.nn.Module()
        block.attn2 = Attention()
        spatial = torch.nn.Module()
        spatial.transformer_blocks = torch.nn.ModuleList([block])
        self.middle_block = torch.nn.ModuleList([spatial])

    def forward(self, n: Tensor, options: dict[str, Any], conds: list[int], sigma: float) -> Tensor:
        extra = {"block": ("middle", 0), "block_index": 0, "cond_or_uncond": conds, "sigmas": torch.tensor([sigma])}
        patches = options.get("patches", {})
        context = value = None
        for patch in patches.get("attn2_patch", []):
            n, context, value = patch(n, context, value, extra)
        attention = self.middle_block[0].transformer_blocks[0].attn2
        n = attention.to_out(attention.to_q(n).sin())
        for patch in patches.get("attn2_output_patch", []):
            n = patch(n, extra)
        return n


class Patcher:
    """What a host's UNet patcher is to the extension."""

    def __init__(self, model: Any = None, options: Any = None) -> None:
        schedule = SimpleNamespace(percent_to_sigma=lambda percent: 14.0 * (1 - percent))
        self.model = model or SimpleNamespace(diffusion_model=Denoiser(), predictor=schedule)
        self.model_options = options or {"transformer_options": {}}
        self.preserved = 0

    def clone(self) -> Patcher:
        return Patcher(self.model, copy.deepcopy(self.model_options))

    def add_extra_preserved_memory_during_sampling(self, count: int) -> None:
        self.preserved += count

    def run(self, n: Tensor, conds: list[int], sigma: float = 7.0) -> Tensor:
        return self.model.diffusion_model(n, self.model_options["transformer_options"], conds, sigma)


def small_ppd() -> PPD:
    """One for the denoiser above, without a user encoder."""
    attention = UserAttention([SHAPE], 6)
    attention.values[0].weight.data += drawn(8, 6, seed=1)
    return PPD(attention, None, "custom", "small")


def small_user(small: PPD, tokens: Tensor | None = None, **more: Any) -> User:
    return User(drawn(3, 6, seed=7) if tokens is None else tokens, small.identity, person="mara", **more)


def wanted(patcher: Patcher, ppd: PPD, user: User, n: Tensor) -> Tensor:
    """What the user adds, by the formula and not folded."""
    attention = patcher.model.diffusion_model.middle_block[0].transformer_blocks[0].attn2
    answer = attend(attention.to_q(n), *ppd.attention.project(0, user.tokens[None]), 2)
    return (answer @ attention.to_out[0].weight.T).detach()
