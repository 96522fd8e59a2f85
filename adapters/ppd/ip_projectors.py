"""The three image projectors of IP-Adapter, under the tensor names of their files.

Each has `tokens_of(images) -> (M, K, W)`, the tokens before the last layer norm, and that norm: several pictures are
averaged in between, so that the tokens keep the length that the attention was trained with.

Shapes: M pictures, D width of a picture's vector, T hidden states of a picture, H their width, K tokens, W their width.

Source: Ye et al. 2023, IP-Adapter, arXiv:2308.06721; tencent-ailab/IP-Adapter, ip_adapter.py and resampler.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import PPDError

__all__ = ["LinearProjector", "MLPProjector", "Projector", "Resampler", "projector_of"]

_HEAD = 64  # width of one attention head of the resampler


class Projector(Protocol):
    """What the three have in common; all are modules."""

    width: int
    """W."""
    image_width: int
    """D, or H where hidden states go in."""
    hidden: bool
    """Whether it takes the hidden states of a picture's patches (M, T, H) instead of its one vector (M, D)."""
    tokens: int
    """K; 0 where it is one token for each hidden state."""

    def tokens_of(self, images: Tensor) -> Tensor:
        """(M, K, W) before the last norm."""

    def normed(self, tokens: Tensor) -> Tensor:
        """The last norm."""


class LinearProjector(nn.Module):
    """The base model's: one vector to K tokens by a linear map."""

    hidden = False

    def __init__(self, image_width: int, width: int, tokens: int = 4) -> None:
        super().__init__()
        self.image_width, self.width, self.tokens = image_width, width, tokens
        self.proj = nn.Linear(image_width, tokens * width)
        self.norm = nn.LayerNorm(width)

    def tokens_of(self, images: Tensor) -> Tensor:
        """(M, D) to (M, K, W)."""
        out: Tensor = self.proj(images)
        return out.view(len(images), self.tokens, self.width)

    def normed(self, tokens: Tensor) -> Tensor:
        """The last norm."""
        out: Tensor = self.norm(tokens)
        return out


class MLPProjector(nn.Module):
    """'Full': one token for each hidden state, by two linear maps."""

    hidden, tokens = True, 0

    def __init__(self, image_width: int, width: int) -> None:
        super().__init__()
        self.image_width, self.width = image_width, width
        self.proj = nn.Sequential(
            nn.Linear(image_width, image_width), nn.GELU(), nn.Linear(image_width, width), nn.LayerNorm(width)
        )

    def tokens_of(self, images: Tensor) -> Tensor:
        """(M, T, H) to (M, T, W)."""
        out: Tensor = self.proj[:3](images)
        return out

    def normed(self, tokens: Tensor) -> Tensor:
        """The last norm."""
        out: Tensor = self.proj[3](tokens)
        return out


class _Perceiver(nn.Module):
    """Learned tokens that look at the picture's hidden states and at each other."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, heads * _HEAD, bias=False)
        self.to_kv = nn.Linear(width, 2 * heads * _HEAD, bias=False)
        self.to_out = nn.Linear(heads * _HEAD, width, bias=False)

    def forward(self, hidden: Tensor, latents: Tensor) -> Tensor:
        latents = self.norm2(latents)
        keys, values = self.to_kv(torch.cat([self.norm1(hidden), latents], dim=1)).chunk(2, dim=-1)
        query, keys, values = (
            part.view(*part.shape[:2], self.heads, _HEAD).transpose(1, 2) for part in (self.to_q(latents), keys, values)
        )
        out: Tensor = self.to_out(F.scaled_dot_product_attention(query, keys, values).transpose(1, 2).flatten(2))
        return out


class Resampler(nn.Module):
    """'Plus': K learned tokens that gather what a picture's hidden states say."""

    hidden = True

    def __init__(self, image_width: int, width: int, tokens: int, inner: int, depth: int, heads: int, mlp: int) -> None:
        super().__init__()
        self.image_width, self.width, self.tokens = image_width, width, tokens
        self.latents = nn.Parameter(torch.zeros(1, tokens, inner))
        self.proj_in = nn.Linear(image_width, inner)
        self.proj_out = nn.Linear(inner, width)
        self.norm_out = nn.LayerNorm(width)
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    _Perceiver(inner, heads),
                    nn.Sequential(
                        nn.LayerNorm(inner),
                        nn.Linear(inner, mlp, bias=False),
                        nn.GELU(),
                        nn.Linear(mlp, inner, bias=False),
                    ),
                ]
            )
            for _ in range(depth)
        )

    def tokens_of(self, images: Tensor) -> Tensor:
        """(M, T, H) to (M, K, W)."""
        latents = self.latents.expand(len(images), -1, -1)
        hidden = self.proj_in(images)
        for layer in self.layers:
            attention, mlp = cast("nn.ModuleList", layer)
            latents = attention(hidden, latents) + latents
            latents = mlp(latents) + latents
        out: Tensor = self.proj_out(latents)
        return out

    def normed(self, tokens: Tensor) -> Tensor:
        """The last norm."""
        out: Tensor = self.norm_out(tokens)
        return out


def projector_of(state: Mapping[str, Tensor], width: int, name: str) -> LinearProjector | MLPProjector | Resampler:
    """Build the projector that an IP-Adapter's `image_proj` tensors are for, with them in it, as float32.

    Args:
        state: Tensors by their name after `image_proj.`.
        width: W, of the attention's keys.
        name: Of the file, for messages.

    Raises:
        PPDError: a projector of another kind (FaceID), or tensors that don't fit each other.
    """
    with torch.device("meta"):
        projector = _empty(state, width, name)
    wanted = projector.state_dict()
    wrong = [key for key in sorted({*wanted, *state}) if key not in wanted or key not in state]
    wrong += [key for key in wanted if key in state and state[key].shape != wanted[key].shape]
    if wrong:
        found = tuple(state[wrong[0]].shape) if wrong[0] in state else "nothing"
        expected = tuple(wanted[wrong[0]].shape) if wrong[0] in wanted else "no such tensor"
        raise PPDError(
            f"Cannot use the IP-Adapter {name!r}: its image_proj.{wrong[0]} is {found}; expected {expected} for the "
            f"attention's width of {width}. Get the file again, or another IP-Adapter."
        )
    projector.load_state_dict({key: state[key].detach().to(torch.float32) for key in wanted}, assign=True)
    return projector.requires_grad_(False)


def _empty(state: Mapping[str, Tensor], width: int, name: str) -> LinearProjector | MLPProjector | Resampler:
    shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
    try:
        if "proj.weight" in shapes:
            out, image_width = shapes["proj.weight"]
            return LinearProjector(image_width, width, max(out // width, 1))
        if "proj.3.weight" in shapes:
            return MLPProjector(shapes["proj.0.weight"][0], width)
        if "latents" in shapes:
            _, tokens, inner = shapes["latents"]
            depth = len({key.split(".")[1] for key in shapes if key.startswith("layers.")})
            heads = max(shapes["layers.0.0.to_q.weight"][0] // _HEAD, 1)
            mlp = shapes["layers.0.1.1.weight"][0]
            return Resampler(shapes["proj_in.weight"][1], width, tokens, inner, depth, heads, mlp)
    except (KeyError, ValueError, IndexError) as error:
        raise PPDError(
            f"Cannot use the IP-Adapter {name!r}: its image projector lacks {error}; expected a whole one. "
            "Get the file again."
        ) from error
    raise PPDError(
        f"Cannot use the IP-Adapter {name!r}: its image projector holds {', '.join(sorted(shapes)[:3]) or 'nothing'}; "
        "expected that of a base, plus or full IP-Adapter. Those of FaceID take a face's vector of InsightFace, which "
        "Palate doesn't compute."
    )
