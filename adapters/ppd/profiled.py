"""A person's user embedding from what a vision-language model says of their answers."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone

from ..comparisons import PreferenceStore
from ..errors import EncoderMismatchError, NotEnoughAnswersError, PPDError
from .model import PPD
from .profiles import VisionLanguageModel, disjoint_chunks, picture_pairs
from .user import User
from .vlm import VLMEncoder

__all__ = ["user_from_profiles"]


def user_from_profiles(
    store: PreferenceStore, model: VisionLanguageModel, person: str, ppd: PPD, most: int = 16, length: int = 1024
) -> User:
    """Make the embedding of a person from what a vision-language model says of their newest answers.

    Args:
        store: Where the answers are.
        model: The one that described the people that the PPD was trained on.
        person: Whose answers.
        ppd: Of the kind "vlm".
        most: Answers to use; four go into a profile, and what is left over doesn't count.
        length: Tokens of a profile at most.

    Raises:
        EncoderMismatchError: another model.
        NotEnoughAnswersError: no answer prefers one of two pictures that can be read.
        PPDError: a PPD of another kind, or the model said nothing.
    """
    if not isinstance(ppd.encoder, VLMEncoder):
        raise PPDError(
            f"Cannot describe {person!r} for the PPD {ppd.name!r} ({ppd.base}): it doesn't know people by profiles; "
            "expected one that was trained with --user-encoder vlm. Leave out --vlm."
        )
    if ppd.image_encoder and model.identity != ppd.image_encoder:
        raise EncoderMismatchError(
            f"Cannot describe {person!r} for the PPD {ppd.name!r} ({ppd.base}): its people were described by "
            f"{ppd.image_encoder_name} ({ppd.image_encoder[:12]}); found {model.name} ({model.identity[:12]}). Choose "
            "the first one."
        )
    pairs = picture_pairs(store, person, most)
    if not pairs:
        raise NotEnoughAnswersError(
            f"Cannot describe {person!r}: found no answer that prefers one of two pictures; expected some. Compare "
            "some pictures first; 4 are a start."
        )
    chunks = disjoint_chunks(pairs) or [pairs]
    profiles = [model.profile(chunk, length) for chunk in chunks]
    made = ppd.encoder.user(profiles, ppd, person, sum(map(len, chunks)))
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return replace(made, encoder=model.identity, encoder_name=model.name, created=now)
