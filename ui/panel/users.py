"""The people and weights that tastes are blended from, as a user of a PPD: a few answers, straight to the denoiser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...adapters.errors import SteeringError
from .blends import FILE, MOST, Part

if TYPE_CHECKING:
    from ...adapters.ppd import User
    from .studio import Studio

__all__ = ["DENOISER", "user_of"]

DENOISER = "user"  # among the ways of steering: none of them, the denoiser itself


def user_of(studio: Studio, parts: Sequence[Part], ppd: Any) -> User | None:
    """Return the people of these parts, blended by their weights; None when every weight is 0.

    Args:
        studio: Gives answers and the encoder.
        parts: People and weights, negative ones too.
        ppd: That the model works with.

    Raises:
        EncoderMismatchError, NotEnoughAnswersError: as `encode_user` says.
        SteeringError: no PPD, a taste from a file, or too many parts.
    """
    used = [part for part in parts if part.weight != 0]
    if ppd is None:
        raise SteeringError(
            "Cannot move the denoiser: found no PPD for this model; expected one in PALATE_HOME/ppd. "
            "`palate train ppd` makes one. Choose another way under Moves."
        )
    if len(used) > MOST:
        raise SteeringError(f"Cannot combine {len(used)} people; expected at most {MOST}. Remove some.")
    for part in used:
        if part.source.startswith(FILE):
            raise SteeringError(
                f"Cannot move the denoiser by {part.name!r}: a taste file holds no answers; expected people who have "
                "answered here. Remove it, or choose another way under Moves."
            )
    users = [studio.tools.user(studio.store, studio.encoder(), part.name, ppd) for part in used]
    if not users:
        return None
    return studio.tools.blend_users(users, [part.weight for part in used])
