"""What CLIP's tokenizer knows as one piece, so that no embedding takes the name of a word."""

from __future__ import annotations

import functools
import json

from ..errors import FileFormatError
from ..playground import playground_folder

__all__ = ["is_word"]


def is_word(text: str) -> bool:
    """Whether CLIP's vocabulary has this text as a word or as a piece of words."""
    known = _vocabulary()
    return text in known or f"{text}</w>" in known


@functools.lru_cache(maxsize=1)
def _vocabulary() -> frozenset[str]:
    """All 49,408 pieces; the playground brings CLIP's own tokenizer. Empty where its files were left out."""
    try:
        text = (playground_folder() / "tokenizer" / "vocab.json").read_text(encoding="utf-8")
    except (FileFormatError, OSError):
        return frozenset()
    return frozenset(json.loads(text))
