"""What a taste says of the pictures that its person saw, for the sidebar: a strip, and words. No ComfyUI here.

Words are told by vectors of theirs that a run of Fit Taste kept; no model is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..adapters.comparisons import PreferenceStore
from ..adapters.playground import playground_words
from ..adapters.taste import VOCABULARY, Taste, WordEffect, kept_words, strip, words_of

__all__ = ["SHOWN", "from_pictures"]

SHOWN = ("strip", "likes", "dislikes")
_STRIP, _LATEST = 6, 1000  # pictures from "not me" to "me", and the latest answers whose pictures they are of
_WORDS = 6  # liked ones at most, and as many disliked


def from_pictures(store: PreferenceStore, person: str, taste: Taste | None) -> dict[str, Any]:
    """What the pictures say that this person was asked about lately.

    Returns:
        `strip`: Some of them, from what they like least to what they like most. `likes`, `dislikes`: Words, the surest
        first; None where no word of the encoder is known here.
    """
    nothing = dict.fromkeys(SHOWN)
    if taste is None:
        return nothing
    latest = store.comparisons(person)[-_LATEST:]
    known = store.vectors(taste.encoder, list({image: None for one in latest for image in (one.left, one.right)}))
    if len(known) < _STRIP:
        return nothing
    images, vectors = list(known), np.stack(list(known.values()))
    found = {"strip": [images[place] for place in strip(taste.utility(vectors), _STRIP)]}
    said = kept_words(store, taste.encoder, (playground_words(), VOCABULARY))
    if said is None:
        return nothing | found
    likes, dislikes = words_of(taste, *said, vectors, _WORDS)
    return found | {"likes": _told(likes), "dislikes": _told(dislikes)}


def _told(words: Sequence[WordEffect]) -> list[dict[str, Any]]:
    """Words as the page shows them; `much` is how strong each is beside the strongest, in [0, 1]."""
    strongest = max((abs(one.effect) for one in words), default=1.0) or 1.0
    return [{"word": one.word.text, "sure": one.sure, "much": abs(one.effect) / strongest} for one in words]
