"""User attention: keys and values of a person's tokens beside those of the text, in every cross-attention.

    Z = softmax(Q K' / sqrt(d)) V + softmax(Q K_u' / sqrt(d)) V_u,   K_u = u W_k,   V_u = u W_v

Q and the output projection are the block's own. W_v starts at zero, so that an untrained PPD is the base bit for bit,
and so is a row of zero tokens at any time: nothing here has a bias.

Shapes: B rows, N places of the picture, K tokens, W their width; heads * d = inner.
Source: Dang et al. 2025, arXiv:2501.06655; Ye et al. 2023, IP-Adapter, arXiv:2308.06721. Differs: W_v starts at zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import PPDError
from .layers import LayerShape

__all__ = ["Folded", "UserAttention", "attend", "fold"]


class UserAttention(nn.Module):
    """The keys' and values' projections of all layers.

    Attributes:
        layers: Which layers, in order.
        width: W.
        keys, values: A Linear(W, inner) without bias for each layer, by its place in `layers`.
    """

    def __init__(self, layers: Sequence[LayerShape], width: int, seed: int | None = 0) -> None:
        """Make one that changes nothing yet.

        Args:
            layers: From `layers_of` or `standard_layers`.
            width: W, the width of the base's own text tokens.
            seed: Of the keys. The values are zero. None leaves both unset, for weights that are loaded at once.

        Raises:
            PPDError: no layers, or a width below 1.
        """
        super().__init__()
        if not layers or width < 1:
            raise PPDError(f"Cannot make user attention for {len(layers)} layers of width {width}; expected some.")
        self.layers, self.width = tuple(layers), width
        self.keys, self.values = nn.ModuleList(), nn.ModuleList()
        numbers = None if seed is None else torch.Generator().manual_seed(seed)
        for layer in self.layers:
            key, value = _unset(width, layer.inner), _unset(width, layer.inner)
            if numbers is not None and not key.weight.is_meta:
                with torch.no_grad():
                    bound = 1.0 / math.sqrt(width)
                    key.weight.copy_(
                        torch.empty(layer.inner, width, device="cpu").uniform_(-bound, bound, generator=numbers)
                    )
                    value.weight.zero_()
            self.keys.append(key)
            self.values.append(value)

    def project(self, place: int, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values (B, K, inner) of tokens (B, K, W) for one layer, in the weights' precision."""
        weight = self.weight(place)
        tokens = tokens.to(weight.device, weight.dtype)
        return self.keys[place](tokens), self.values[place](tokens)

    def weight(self, place: int) -> Tensor:
        """The keys' weight (inner, W) of one layer; says where this computes and in which precision."""
        weight: Tensor = self.keys[place].weight  # type: ignore[assignment]
        return weight

    def fold(self, place: int, tokens: Tensor, to_q: Tensor, to_out: Tensor) -> Folded:
        """Carry one user's keys through a block's query projection and the values through its output projection.

        n W_q' K_u' = n (K_u W_q)', so that a block needs nothing but its normed hidden state: for a host that gives
        away neither query nor output projection.

        Args:
            place: Of the layer.
            tokens: (K, W).
            to_q: (inner, query) the block's weight. to_out: (out, inner) likewise; its bias is the block's business.
        """
        keys, values = (part[0] for part in self.project(place, tokens[None]))
        return fold(keys, values, self.layers[place].heads, to_q, to_out)


@dataclass(frozen=True, eq=False)
class Folded:
    """One user in one layer, as two small matrices per head.

    Attributes:
        keys: (heads, K, query), scaled by 1 / sqrt(d). values: (heads, K, out).
    """

    keys: Tensor
    values: Tensor

    def __call__(self, hidden: Tensor) -> Tensor:
        """What the user adds (B, N, out) to a block's output, from its normed hidden state (B, N, query)."""
        heads, count, _ = self.keys.shape
        scores = hidden @ self.keys.flatten(0, 1).T
        shares = scores.view(*scores.shape[:-1], heads, count).float().softmax(-1).to(hidden.dtype)
        return torch.matmul(shares.flatten(-2), self.values.flatten(0, 1))

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Folded:
        """The same elsewhere or in another precision."""
        return Folded(self.keys.to(device, dtype), self.values.to(device, dtype))


def fold(keys: Tensor, values: Tensor, heads: int, to_q: Tensor, to_out: Tensor) -> Folded:
    """Fold keys and values that are projected already; see `UserAttention.fold`.

    Args:
        keys, values: (K, inner); it computes where they are, in float32.
        heads: >= 1.
        to_q, to_out: As there.
    """
    keys, values = keys.float(), values.float()
    count, inner = keys.shape
    d = inner // heads
    to_q, to_out = to_q.to(keys.device, torch.float32), to_out.to(keys.device, torch.float32)
    asked = torch.einsum("khd,hdq->hkq", keys.view(count, heads, d), to_q.view(heads, d, -1)) / math.sqrt(d)
    given = torch.einsum("khd,ohd->hko", values.view(count, heads, d), to_out.view(-1, heads, d))
    return Folded(asked, given)


def attend(query: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
    """Return what the user's tokens answer (B, N, inner) to a block's query, in the query's precision.

    Args:
        query: (B, N, inner). keys, values: (B, K, inner), or (1, K, inner) for all rows. heads: >= 1.
    """
    rows, _, inner = query.shape

    def split(part: Tensor) -> Tensor:
        part = part.to(query.device, query.dtype).expand(rows, -1, -1)
        return part.view(rows, -1, heads, inner // heads).transpose(1, 2)

    answer: Tensor = F.scaled_dot_product_attention(split(query), split(keys), split(values))
    return answer.transpose(1, 2).flatten(-2)


def _unset(width: int, inner: int) -> nn.Linear:
    """A layer whose weights are yet to be set; the usual way would draw them from the global source of chance."""
    here = torch.empty(0).device  # "meta" for who asks for shapes alone
    return nn.Linear(width, inner, bias=False, device="meta").to_empty(device=here)
