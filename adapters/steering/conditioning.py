"""What conditions a picture: token states and, for SDXL, the pooled vector.

Shapes: C chunks of T = 77 tokens, H width of a text encoder (both together for SDXL), D joint width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .settings import Movement

__all__ = ["Conditioning", "joined_movement", "prompt_arguments"]


@dataclass(frozen=True)
class Conditioning:
    """One prompt as a pipeline takes it.

    Attributes:
        tokens: (1, 77·C, H) token states; of two towers, side by side.
        pooled: (1, D) projected pooled state of the last tower's first chunk (SDXL: 1280), or None.
    """

    tokens: Tensor
    pooled: Tensor | None = None

    def followed_by(self, other: Conditioning) -> Conditioning:
        """With another's chunks after its own; the pooled vector stays the first's."""
        return Conditioning(torch.cat([self.tokens, other.tokens], dim=1), self.pooled)

    def zeros(self) -> Conditioning:
        """As long, and all zeros: what SDXL was trained with where there is no negative prompt."""
        return Conditioning(
            torch.zeros_like(self.tokens), None if self.pooled is None else torch.zeros_like(self.pooled)
        )


def joined_movement(parts: Sequence[Movement], plain: Conditioning, moved: Conditioning, strength: float) -> Movement:
    """How far a prompt was moved over all towers.

    Args:
        parts: Of each tower that was moved, one or more; angles and losses are their means.
        plain: Before, for the change of the token states of all towers together.
        moved: After.
        strength: At which.
    """
    if not parts:
        return Movement(1.0, 0.0, 0.0, 0.0, 0.0, strength)
    change = (moved.tokens.float() - plain.tokens.float()).norm() / plain.tokens.float().norm()

    def mean(name: str) -> float:
        return sum(float(getattr(part, name)) for part in parts) / len(parts)

    return Movement(
        cosine=mean("cosine"),
        degrees=mean("degrees"),
        token_change=float(change),
        objective_before=mean("objective_before"),
        objective_after=mean("objective_after"),
        strength=strength,
    )


def prompt_arguments(wanted: Conditioning, negative: Conditioning) -> dict[str, Tensor]:
    """Both as a pipeline's keyword arguments; pooled vectors only where the model takes them."""
    arguments = {"prompt_embeds": wanted.tokens, "negative_prompt_embeds": negative.tokens}
    if wanted.pooled is not None and negative.pooled is not None:
        arguments |= {"pooled_prompt_embeds": wanted.pooled, "negative_pooled_prompt_embeds": negative.pooled}
    return arguments
