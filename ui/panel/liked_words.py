"""The words that tastes would add to a prompt, offered under Generate one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...adapters.errors import EncoderError, EncoderMismatchError, NotEnoughAnswersError
from ...adapters.taste import prompt_in_words
from .blends import USER, Part

if TYPE_CHECKING:
    from .blends import Blends
    from .studio import Studio

__all__ = ["LikedWords"]

LIKED, DISLIKED = 4, 2  # that are offered at once


class LikedWords:
    """Finds words to offer.

    Args:
        studio: Gives the encoder and its vocabulary.
        blends: Adds tastes up.
    """

    def __init__(self, studio: Studio, blends: Blends) -> None:
        self._studio, self._blends = studio, blends

    def offer(self, prompt: str, parts: Sequence[Part]) -> dict[str, Any]:
        """Return what to add to a prompt and what to its negative one, the surest first; nothing where nobody knows.

        Args:
            prompt: As it is typed so far.
            parts: The tastes that are combined; user files say nothing in words and are left out.

        Raises:
            SteeringError: too many tastes.
        """
        nothing: dict[str, Any] = {"liked": [], "disliked": []}
        try:
            encoder = self._studio.encoder()
            tastes = self._blends.of([part for part in parts if not part.source.startswith(USER)])
        except (EncoderError, EncoderMismatchError, NotEnoughAnswersError):
            return nothing
        taste = next((one for one in tastes if one.encoder == encoder.identity), None)
        if taste is None or not getattr(encoder, "has_text", False):
            return nothing
        found = prompt_in_words(prompt, taste, encoder, self._studio.tools.words(), LIKED, DISLIKED)
        return {
            "liked": [one.word.text for one in found.added],
            "disliked": [one.word.text for one in found.avoided],
        }
