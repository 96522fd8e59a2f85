"""The words that tastes would add to a prompt: offered under Generate one by one, or added."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...adapters.errors import EncoderError, EncoderMismatchError, NotEnoughAnswersError
from ...adapters.taste import prompt_in_words
from .blends import USER, Part

if TYPE_CHECKING:
    from ...adapters.taste import Taste, Worded
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
        found = self._found(prompt, parts, LIKED, DISLIKED)
        return {
            "liked": [one.word.text for one in found.added] if found else [],
            "disliked": [one.word.text for one in found.avoided] if found else [],
        }

    def liked(self, prompt: str, parts: Sequence[Part], most: int) -> tuple[str, ...]:
        """Return words to add to a prompt, the surest first; none where nobody knows.

        Args:
            prompt, parts: As above.
            most: Words, 0 to MOST_WORDS.
        """
        found = self._found(prompt, parts, most, 0) if most else None
        return tuple(one.word.text for one in found.added) if found else ()

    def judge(self, parts: Sequence[Part]) -> tuple[Taste, Any] | None:
        """Return what the parts' answers say of any picture, and the encoder that sees it; None where nobody knows.

        Raises:
            SteeringError: too many tastes.
        """
        try:
            encoder = self._studio.encoder()
            tastes = self._blends.of([part for part in parts if not part.source.startswith(USER)])
        except (EncoderError, EncoderMismatchError, NotEnoughAnswersError):
            return None
        taste = next((one for one in tastes if one.encoder == encoder.identity), None)
        return None if taste is None else (taste, encoder)

    def _found(self, prompt: str, parts: Sequence[Part], most: int, avoid: int) -> Worded | None:
        judge = self.judge(parts)
        if judge is None or not getattr(judge[1], "has_text", False):
            return None
        return prompt_in_words(prompt, *judge, self._studio.tools.words(), most, avoid)
