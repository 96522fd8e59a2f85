"""A small world to try everything in: drawn postcards, models trained on them, and people who like some of them."""

from __future__ import annotations

from .folder import SAMPLING, Sampling, clip_config, load_clip_state, playground_folder
from .words import playground_words, words_known_by

__all__ = [
    "SAMPLING",
    "Sampling",
    "clip_config",
    "load_clip_state",
    "playground_folder",
    "playground_words",
    "words_known_by",
]
