"""The default user encoder: a small set network that reads a person from pairs of chosen and rejected pictures.

Shapes: B people, N pairs, D image vectors, K tokens of a user, W their width, H width inside.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import PPDError

__all__ = ["PairsEncoder"]

HEAD = 32  # width of an attention head


class PairsEncoder(nn.Module):
    """Pairs of vectors to a user's tokens, whatever their number and order.

    Every pair becomes one token; K learned ones stand before them and are given back, after attention among all, as
    the user. The learned ones start from what one Bradley-Terry step sees, the sum of chosen minus rejected, so that
    the rest of the network has to learn only what that step misses: how sure so many answers are, and what people are
    like. Without a pair they are the average user.

    Attributes:
        kind: "pairs".
        tokens: K. width: W.
        config: The arguments of `__init__`, enough to build it again.

    Source: PPD (arXiv:2501.06655), which reads words about four pairs; this one is trained with the denoiser instead.
    Lee et al. 2019, Set Transformer, arXiv:1810.00825, for the order; Gallego 2023, arXiv:2308.07929, equation 3, for
    the start.
    """

    kind = "pairs"

    def __init__(
        self, image_width: int, width: int, tokens: int = 4, hidden: int = 256, layers: int = 2, seed: int = 0
    ) -> None:
        """Build with fresh weights; the same seed gives the same, and the caller's random state is left alone.

        Args:
            image_width: D. width: W. tokens: K, >= 1.
            hidden: H, a multiple of 32. layers: Of attention, >= 1.
            seed: Of the weights.

        Raises:
            PPDError: a size that no network has.
        """
        super().__init__()
        sizes = {"image_width": image_width, "width": width, "tokens": tokens, "hidden": hidden, "layers": layers}
        wrong = {name: size for name, size in sizes.items() if size < 1}
        if wrong or hidden % HEAD:
            raise PPDError(
                f"Cannot build a pairs encoder: found {wrong or {'hidden': hidden}}; expected sizes of 1 or more, and "
                f"hidden a multiple of {HEAD}. Change them."
            )
        self.image_width, self.width, self.tokens = image_width, width, tokens
        self.config: dict[str, Any] = sizes
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.pair = nn.Linear(2 * image_width, hidden)
            self.start = nn.Parameter(torch.randn(tokens, hidden) * 0.5)
            self.step = nn.Linear(image_width, tokens * hidden, bias=False)
            self.count = nn.Parameter(torch.zeros(tokens, hidden))
            self.blocks = nn.ModuleList([_Block(hidden) for _ in range(layers)])
            self.norm = nn.LayerNorm(hidden)
            self.out = nn.Linear(hidden, width)

    def forward(self, chosen: Tensor, rejected: Tensor, mask: Tensor | None = None) -> Tensor:
        """Read people.

        Args:
            chosen, rejected: (B, N, D) of unit norm; N may be 0.
            mask: (B, N) of bool, where a pair is one; None where all are.

        Returns:
            (B, K, W).

        Raises:
            PPDError: vectors of another width, or sides that don't belong together.
        """
        if chosen.shape != rejected.shape or chosen.dim() != 3 or chosen.shape[-1] != self.image_width:
            raise PPDError(
                f"Cannot read a user: found chosen {tuple(chosen.shape)} and rejected {tuple(rejected.shape)}; "
                f"expected one shape (people, pairs, {self.image_width}). Encode the pictures with the encoder of "
                "these weights."
            )
        people, pairs = chosen.shape[:2]
        there = torch.ones(people, pairs, dtype=torch.bool, device=chosen.device) if mask is None else mask
        # Unit vectors of many numbers have small ones; networks want them near 1.
        scale = self.image_width**0.5
        difference = torch.where(there[..., None], chosen - rejected, 0.0) * scale
        middle = torch.where(there[..., None], (chosen + rejected) / 2, 0.0) * scale
        found = self.pair(torch.cat([difference, middle], dim=-1))
        number = there.sum(1).to(chosen.dtype)[:, None]
        step = self.step(difference.sum(1) / (1.0 + number)).unflatten(1, (self.tokens, -1))
        user = self.start + step + torch.log1p(number)[..., None] * self.count
        state = torch.cat([user, found], dim=1)
        seen = torch.cat([there.new_ones(people, self.tokens), there], dim=1)[:, None, None]
        for block in self.blocks:
            state = block(state, seen)
        tokens: Tensor = self.out(self.norm(state[:, : self.tokens]))
        return tokens


class _Block(nn.Module):
    """Attention among all tokens and a network for each, both added to what came in."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.projections, self.joined = nn.Linear(hidden, 3 * hidden), nn.Linear(hidden, hidden)
        self.wide, self.narrow = nn.Linear(hidden, 2 * hidden), nn.Linear(2 * hidden, hidden)

    def forward(self, state: Tensor, seen: Tensor) -> Tensor:
        """(B, T, H) to (B, T, H); tokens where `seen` (B, 1, 1, T) is False are not looked at."""
        parts = self.projections(self.before(state)).unflatten(-1, (3, -1, HEAD)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(parts[0], parts[1], parts[2], attn_mask=seen)
        state = state + self.joined(mixed.transpose(1, 2).flatten(2))
        changed: Tensor = state + self.narrow(F.gelu(self.wide(self.between(state))))
        return changed
