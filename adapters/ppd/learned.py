"""Tokens that are learned for rewards, or people, that are known by name: there is nothing to encode.

A mixture of rewards is a mixture of their tokens, u = sum of w_k e_k with w on the simplex: who trains on it draws
corners, who uses it may stand anywhere (`blend_users`).

Shapes: R rewards, K tokens, W their width, B users, N pairs.

Source: Dang et al. 2025, PPD, arXiv:2501.06655, section on several rewards. The paper doesn't say how its synthetic
users are encoded; ours are free parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import PPDError
from .model import PPD
from .user import User

__all__ = ["LearnedTokens"]


class LearnedTokens(nn.Module):
    """R times K free tokens; a `UserEncoder` whose "vectors" are weights of the rewards.

    Args:
        names: Of the rewards, all different.
        width: W, of the base's cross-attention.
        tokens: K.
        seed: Of the first values, which are of the size of normed tokens.
    """

    kind = "learned"

    def __init__(self, names: Sequence[str], width: int, tokens: int = 4, seed: int = 0) -> None:
        super().__init__()
        if not names or len(set(names)) != len(names) or not all(names) or min(width, tokens) < 1:
            raise PPDError(
                f"Cannot learn tokens: found the rewards {list(names)} and {tokens} tokens of width {width}; expected "
                "different names, one at least, and sizes of 1 or more. Name each reward once."
            )
        self.names, self.width, self.tokens = tuple(names), width, tokens
        numbers = torch.Generator().manual_seed(seed)
        values = torch.randn(len(names), tokens, width, generator=numbers, device="cpu")
        self.values = nn.Parameter(values)

    @property
    def image_width(self) -> int:
        """R: a "vector" has one weight for each reward."""
        return len(self.names)

    @property
    def config(self) -> dict[str, Any]:
        """Enough to build it again."""
        return {"names": list(self.names), "width": self.width, "tokens": self.tokens}

    def forward(self, chosen: Tensor, rejected: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Tokens of mixtures of rewards.

        Args:
            chosen: (B, N, R) weights; one row of the identity is that reward. The mean over N counts.
            rejected: Not looked at.
            mask: (B, N), True where a row counts; None: everywhere.

        Returns:
            (B, K, W); zeros, the branch off, where no row counts.

        Raises:
            PPDError: weights of another number of rewards.
        """
        if chosen.ndim != 3 or chosen.shape[-1] != len(self.names):
            raise PPDError(
                f"Cannot mix rewards: found weights as {tuple(chosen.shape)}; expected (users, rows, "
                f"{len(self.names)}), one for each of {', '.join(self.names)}. Give one weight for each."
            )
        rows = torch.ones(chosen.shape[:2]) if mask is None else mask
        rows = rows.to(device=chosen.device, dtype=self.values.dtype)[..., None]
        weights = (chosen.to(self.values.dtype) * rows).sum(dim=1) / rows.sum(dim=1).clamp(min=1)  # [B, R]
        return torch.einsum("br,rkw->bkw", weights, self.values)

    def weights_of(self, name: str) -> Tensor:
        """(R,) the row that stands for one reward.

        Raises:
            PPDError: no such reward; it names the known ones.
        """
        if name not in self.names:
            raise PPDError(
                f"Cannot take the reward {name!r}: found {', '.join(self.names)}; expected one of these. "
                "Choose one of these names."
            )
        return torch.eye(len(self.names))[self.names.index(name)]

    def user(self, name: str, ppd: PPD) -> User:
        """The user that stands for one reward.

        Args:
            name: One of `names`.
            ppd: The PPD that these tokens belong to.

        Raises:
            PPDError: no such reward.
        """
        row = self.weights_of(name)
        with torch.no_grad():
            tokens = self(row.to(self.values.device)[None, None])[0].float().cpu()
        return User(tokens=tokens, ppd=ppd.identity, person=name, base=ppd.base)
