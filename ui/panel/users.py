"""The people and weights that tastes are blended from, as a user of a PPD: a few answers, straight to the denoiser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...adapters.errors import SteeringError
from .blends import FILE, MOST, USER, Part

if TYPE_CHECKING:
    from ...adapters.files import UserFile
    from ...adapters.ppd import User
    from .studio import Studio
    from .tastes import UserFiles

__all__ = ["DENOISER", "fits_ppd", "own_user", "user_of"]

DENOISER = "user"  # among the ways of steering: none of them, the denoiser itself


def user_of(studio: Studio, files: UserFiles, parts: Sequence[Part], ppd: Any) -> User | None:
    """Return the people and user files of these parts, blended by their weights; None when every weight is 0.

    Args:
        studio: Gives answers and the encoder.
        files: The shelf.
        parts: People and weights, negative ones too.
        ppd: That the model works with.

    Raises:
        EncoderMismatchError, NotEnoughAnswersError: as `encode_user` says.
        FileFormatError, PPDError: a user file that can't be read, or of another PPD.
        SteeringError: no PPD, a taste from a file, or too many parts.
    """
    used = [part for part in parts if part.weight != 0]
    _require(ppd)
    if len(used) > MOST:
        raise SteeringError(f"Cannot combine {len(used)} people; expected at most {MOST}. Remove some.")
    for part in used:
        if part.source.startswith(FILE):
            raise SteeringError(
                f"Cannot move the denoiser by {part.name!r}: a taste file holds no answers; expected people who have "
                "answered here, or user files. Remove it, or choose another way under Moves."
            )
    users = [_one(studio, files, part, ppd) for part in used]
    if not users:
        return None
    return studio.tools.blend_users(users, [part.weight for part in used])


def own_user(studio: Studio, person: str) -> User:
    """Return what this model's PPD makes of a person's answers.

    Raises:
        EncoderMismatchError, NotEnoughAnswersError: as `encode_user` says.
        SteeringError: no PPD.
    """
    ppd = studio.tools.ppd(studio.painter().painter)
    _require(ppd)
    return studio.tools.user(studio.store, _encoder(studio, ppd), person, ppd)  # type: ignore[no-any-return]


def fits_ppd(studio: Studio, said: UserFile) -> str:
    """Return "" when a user file can be used with the model, as far as it is known yet, else what would fit."""
    painter = studio.loaded_painter()
    if painter is None:  # nothing is loaded only to list files
        return ""
    ppd = studio.tools.ppd(painter)
    if ppd is None:
        return "It moves the denoiser through a PPD, and this model has none."
    if ppd.identity == said.ppd:
        return ""
    return (
        f"It was made by the PPD {said.ppd[:12]} ({said.base or 'base unknown'}); this model has {ppd.identity[:12]}. "
        "Ask for one that was made with it."
    )


def _one(studio: Studio, files: UserFiles, part: Part, ppd: Any) -> User:
    if not part.source.startswith(USER):
        return studio.tools.user(studio.store, _encoder(studio, ppd), part.name, ppd)  # type: ignore[no-any-return]
    user = files.load(part.name)
    ppd.takes(user)
    return user


def _encoder(studio: Studio, ppd: Any) -> Any:
    """The encoder that the PPD was trained with, where it is one of those in use, else the first, which is refused."""
    first = studio.encoder()
    wanted = ppd.image_encoder
    if wanted in ("", first.identity):
        return first
    return next((one for one in studio.tools.more_encoders() if one.identity == wanted), first)


def _require(ppd: Any) -> None:
    if ppd is None:
        raise SteeringError(
            "Cannot move the denoiser: found no PPD for this model; expected one in PALATE_HOME/ppd. "
            "`palate train ppd` makes one. Choose another way under Moves."
        )
