"""Tokens of a user from what a vision-language model says of them: the trainable part of the paper's user encoder.

Shapes: B users, N profiles of one user (chunks of four pairs), S states of a profile, H their width, K tokens, W their
width.

Source: Dang et al. 2025, PPD, arXiv:2501.06655. Differs: the paper doesn't say which states the denoiser gets; all 29
layers' are the default, since the released first stage keeps them all and a single token's attention is a constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import PPDError
from .model import PPD
from .profiles import Profile
from .user import User

__all__ = ["VLMEncoder"]


class VLMEncoder(nn.Module):
    """Linear map and layer norm of each state; a `UserEncoder` whose "vectors" are profiles' states.

    Args:
        states: S, layers of the vision-language model and its embeddings.
        state_width: H.
        width: W, of the base's cross-attention.
        tokens: None: one token for each state. A number: that many from the last layer's state, by one map.
    """

    kind = "vlm"

    def __init__(self, states: int, state_width: int, width: int, tokens: int | None = None) -> None:
        super().__init__()
        if min(states, state_width, width) < 1 or (tokens is not None and tokens < 1):
            raise PPDError(
                f"Cannot make a user encoder of {states} states of width {state_width} to {tokens} tokens of {width}; "
                "expected 1 or more of each. Give the model's own sizes: 29, 3584."
            )
        self.states, self.state_width, self.width, self.from_last = states, state_width, width, tokens
        self.tokens = states if tokens is None else tokens
        self.projection = nn.Linear(state_width, width * (tokens or 1))
        self.norm = nn.LayerNorm(width)

    @property
    def image_width(self) -> int:
        """S times H: how wide one profile is as a vector."""
        return self.states * self.state_width

    @property
    def config(self) -> dict[str, Any]:
        """Enough to build it again."""
        return {
            "states": self.states,
            "state_width": self.state_width,
            "width": self.width,
            "tokens": self.from_last,
        }

    def forward(self, chosen: Tensor, rejected: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Tokens of users.

        Args:
            chosen: (B, N, S * H) profiles' states, flattened; several profiles of one user are averaged after the
                projection, so that their order doesn't count.
            rejected: Not looked at: a profile speaks of both sides.
            mask: (B, N), True where there is a profile; None: everywhere.

        Returns:
            (B, K, W); zeros, the branch off, for somebody without a profile.

        Raises:
            PPDError: states of another model.
        """
        if chosen.ndim != 3 or chosen.shape[-1] != self.image_width:
            raise PPDError(
                f"Cannot encode a user: found profiles as {tuple(chosen.shape)}; expected (users, profiles, "
                f"{self.states} x {self.state_width} = {self.image_width}). Use the vision-language model that this "
                "PPD was trained with."
            )
        people, profiles = chosen.shape[:2]
        there = torch.ones(people, profiles) if mask is None else mask
        there = there.to(device=chosen.device, dtype=self.projection.weight.dtype)
        states = chosen.to(self.projection.weight.dtype).reshape(people, profiles, self.states, self.state_width)
        if self.from_last is not None:
            states = states[:, :, -1:]
        each = self.projection(states).reshape(people, profiles, self.tokens, self.width)  # [B, N, K, W]
        mean = (each * there[:, :, None, None]).sum(dim=1) / there.sum(dim=1).clamp(min=1)[:, None, None]
        out: Tensor = self.norm(mean) * there.any(dim=1)[:, None, None]
        return out

    def user(self, profiles: Sequence[Profile], ppd: PPD, person: str = "", pairs: int = 0) -> User:
        """The embedding of somebody whom a vision-language model described.

        Args:
            profiles: Of chunks of their pairs, one or more; their order doesn't count.
            ppd: The PPD that this encoder belongs to.
            person: Who, for people to read.
            pairs: How many answers were described.

        Raises:
            PPDError: no profile, or of another model.
        """
        if not profiles:
            raise PPDError(
                f"Cannot make an embedding of {person or 'this person'!r}: found no profile; expected one at least. "
                "Answer four questions first, then have them described."
            )
        states = torch.stack([profile.states.flatten() for profile in profiles])[None]
        with torch.no_grad():
            tokens = self(states.to(self.projection.weight.device))[0]
        return User(tokens, ppd.identity, person=person, pairs=pairs, base=ppd.base)
