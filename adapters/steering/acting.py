"""A user at work in a generator's pictures: checked before anything long starts, and part of what names a picture."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

from ..errors import PPDError
from ..ppd.diffusers import use_user
from ..ppd.model import PPD
from ..ppd.user import User, require_use
from .sampling import Look

__all__ = ["Acting", "acting"]


@dataclass(frozen=True, eq=False)
class Acting:
    """A user of a PPD, how strongly and when; as in `use_user`."""

    ppd: PPD
    user: User
    strength: float
    start_percent: float
    end_percent: float

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for what gives equal pictures."""
        negative = None if self.user.negative is None else self.user.negative.numpy().tobytes()
        tokens = self.user.tokens.numpy().tobytes()
        return self.user.ppd, tokens, negative, self.strength, self.start_percent, self.end_percent

    def on(self, pipeline: Any, look: Look) -> contextlib.AbstractContextManager[None]:
        """Let the user act on a pipeline's UNet while this lasts."""
        return use_user(
            pipeline.unet,
            self.ppd,
            self.user,
            self.strength,
            self.start_percent,
            self.end_percent,
            timesteps=int(pipeline.scheduler.config.get("num_train_timesteps", 1000)),
            guidance=look.guidance > 1.0,
        )


def acting(
    ppd: PPD | None, user: User | None, strength: float, start_percent: float, end_percent: float
) -> Acting | None:
    """Return the user at work, None for nobody or strength 0.

    Args:
        ppd: What the user was made with.
        user: Who, or None.
        strength: -5 to 5; 1 as trained.
        start_percent, end_percent: Part of the schedule, in [0, 1].

    Raises:
        PPDError: no PPD, another than the user's, or a number out of range.
    """
    require_use(strength, start_percent, end_percent)
    if user is None:
        return None
    if ppd is None:
        raise PPDError(
            f"Cannot generate for {user.person or 'this user'!r}: no PPD is loaded; expected {user.ppd[:12]} "
            f"({user.base or 'base unknown'}). Load the PPD that the user was made with."
        )
    ppd.takes(user)
    return Acting(ppd, user, strength, start_percent, end_percent) if strength != 0.0 else None
