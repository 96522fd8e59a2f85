"""What makes a person's tokens from their answers, as far as the rest of PPD knows it.

Shapes: B people, N pairs, D image vectors, K tokens, W their width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from PIL import Image
from torch import Tensor

from ..encoders import ImageTextEncoder

__all__ = ["NegativeEncoder", "PictureEncoder", "UserEncoder"]


@runtime_checkable
class UserEncoder(Protocol):
    """What makes a person's tokens; each is an `nn.Module`, too.

    Attributes:
        kind: "pairs", "vlm", "learned" or "ip_adapter".
        tokens: K. width: W.
        config: JSON, enough to build it again.
    """

    kind: str
    tokens: int
    width: int
    config: dict[str, Any]

    def __call__(self, chosen: Tensor, rejected: Tensor, mask: Tensor | None, /) -> Tensor:
        """Tokens (B, K, W) from vectors (B, N, D) each, in no order of the pairs; mask (B, N) tells which are pairs.

        With no pair at all: the average person.
        """


@runtime_checkable
class NegativeEncoder(Protocol):
    """A user encoder that has something for the unconditional half of guidance."""

    def negative(self, chosen: Tensor, rejected: Tensor, mask: Tensor | None, /) -> Tensor:
        """Tokens (B, K', W) from vectors (B, N, D) each."""


@runtime_checkable
class PictureEncoder(Protocol):
    """A user encoder that wants more of a picture than the unit vector that a store keeps."""

    def look(self, encoder: ImageTextEncoder, pictures: Sequence[Image.Image], /) -> Tensor:
        """(N, D) what it wants to know of each picture."""
