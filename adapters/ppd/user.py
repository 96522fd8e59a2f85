"""One person, or a blend of several, as what a denoiser with user attention takes.

Shapes: K tokens, W width of the base's cross-attention.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import PPDError

__all__ = ["MOST_STRENGTH", "User", "blend_users", "require_use"]

MOST_STRENGTH = 5.0


@dataclass(frozen=True, eq=False)
class User:
    """A user embedding.

    Attributes:
        tokens: (K, W) float32 on the CPU. All zeros is nobody: the base model bit for bit.
        ppd: Identity of the PPD weights that made it, the only ones it can be used with.
        negative: (K', W) float32 for the unconditional half of guidance, as IP-Adapter has it; None for nobody there.
        person: Who, as shown to people.
        pairs: How many answers it was made from.
        encoder, encoder_name: Identity and name of the image encoder behind it; "" where none is.
        base: Family of the model that it is for: "playground", "sd15", "sdxl" or "cascade".
        created: ISO 8601 in UTC; "" when unknown.
    """

    tokens: Tensor
    ppd: str
    negative: Tensor | None = None
    person: str = ""
    pairs: int = 0
    encoder: str = ""
    encoder_name: str = ""
    base: str = ""
    created: str = ""

    def __post_init__(self) -> None:
        who = self.person or "a user"
        for what, tokens in (("tokens", self.tokens), ("negative tokens", self.negative)):
            if tokens is None:
                continue
            if tokens.ndim != 2 or not tokens.numel() or tokens.shape[1] != self.tokens.shape[1]:
                raise PPDError(
                    f"Cannot use the embedding of {who!r}: its {what} have shape {tuple(tokens.shape)}; expected "
                    "(K, W) with at least one token. Make it again from the person's answers."
                )
            if not bool(torch.isfinite(tokens).all()):
                raise PPDError(
                    f"Cannot use the embedding of {who!r}: its {what} hold NaN or infinity; expected numbers. Make it "
                    "again from the person's answers."
                )
        for name in ("tokens", "negative"):
            tokens = getattr(self, name)
            if tokens is not None:
                object.__setattr__(self, name, tokens.detach().to("cpu", torch.float32).contiguous())

    def __repr__(self) -> str:
        return f"User({self.person!r}, tokens={tuple(self.tokens.shape)}, base={self.base!r}, ppd={self.ppd[:12]}…)"

    @property
    def count(self) -> int:
        """K."""
        return int(self.tokens.shape[0])

    @property
    def width(self) -> int:
        """W."""
        return int(self.tokens.shape[1])


def blend_users(users: Sequence[User], weights: Sequence[float]) -> User:
    """Mix several users: tokens = sum of weight * tokens, the negative ones alike.

    Args:
        users: Of one PPD.
        weights: One each, any number: negative leads away from a user, 0 leaves one out. They need not sum to 1.

    Raises:
        PPDError: no user, not as many weights, another PPD or number of tokens, or a weight that is no number.

    Source: Dang et al. 2025, arXiv:2501.06655, interpolation between rewards. Differs: any weights, not a simplex.
    """
    if not users or len(users) != len(weights):
        raise PPDError(
            f"Cannot blend users: found {len(users)} user(s) and {len(weights)} weight(s); expected at least one "
            "user, and one weight for each."
        )
    if not all(math.isfinite(weight) for weight in weights):
        raise PPDError(f"Cannot blend users: the weights are {list(weights)}; expected finite numbers.")
    first = users[0]
    for other in users[1:]:
        _require_alike(first, other)
    names = [user.person or "somebody" for user in users]
    shares = [f"{weight:g} {name}" for weight, name in zip(weights, names, strict=True)]
    alike = {user.encoder for user in users} == {first.encoder}
    return User(
        _sum([user.tokens for user in users], weights),
        first.ppd,
        _blended_negative(users, weights),
        person=names[0] if len(users) == 1 and weights[0] == 1.0 else " + ".join(shares),
        pairs=sum(user.pairs for user in users),
        encoder=first.encoder if alike else "",
        encoder_name=first.encoder_name if alike else "",
        base=first.base,
        created=max(user.created for user in users),
    )


def _sum(tokens: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Weighted sum in float64, rounded once: the order of the users changes nothing but the last bit."""
    total = torch.zeros_like(tokens[0], dtype=torch.float64)
    for part, weight in zip(tokens, weights, strict=True):
        total += float(weight) * part.double()
    return total.float()


def require_use(strength: float, start_percent: float = 0.0, end_percent: float = 1.0) -> None:
    """Refuse a strength or a part of the schedule that makes no sense.

    Raises:
        PPDError: strength outside -5 to 5, or not 0 <= start_percent <= end_percent <= 1.
    """
    if not -MOST_STRENGTH <= strength <= MOST_STRENGTH:
        raise PPDError(
            f"Cannot apply a user with strength {strength:g}; expected {-MOST_STRENGTH:g} to {MOST_STRENGTH:g}: 0 is "
            "off, 1 as trained, below 0 leads away from the person."
        )
    if not 0.0 <= start_percent <= end_percent <= 1.0:
        raise PPDError(
            f"Cannot apply a user from {start_percent:g} to {end_percent:g} of the schedule; expected "
            "0 <= start_percent <= end_percent <= 1."
        )


def _require_alike(first: User, other: User) -> None:
    one, two = first.person or "a user", other.person or "a user"
    if first.ppd != other.ppd:
        raise PPDError(
            f"Cannot blend {one!r} with {two!r}: they were made by two PPDs, {first.ppd[:12]} ({first.base or '?'}) "
            f"and {other.ppd[:12]} ({other.base or '?'}); expected one. Encode both people with the same PPD."
        )
    if first.tokens.shape != other.tokens.shape:
        raise PPDError(
            f"Cannot blend {one!r} with {two!r}: {tuple(first.tokens.shape)} tokens and {tuple(other.tokens.shape)}; "
            "expected as many of one width. Make both from as many pictures."
        )


def _blended_negative(users: Sequence[User], weights: Sequence[float]) -> Tensor | None:
    found = [(user.negative, weight) for user, weight in zip(users, weights, strict=True) if user.negative is not None]
    if not found:
        return None
    if len({tuple(tokens.shape) for tokens, _ in found}) > 1:
        raise PPDError(
            "Cannot blend these users: they have different numbers of negative tokens; expected as many for each. "
            "Make all of them from as many pictures."
        )
    return _sum([tokens for tokens, _ in found], [weight for _, weight in found])
