"""How the page's events run: quietly, in any number; and how errors are told: in words, never as a traceback."""

from __future__ import annotations

import logging
from typing import Any

from ...adapters.errors import PreferenceError

__all__ = ["QUIET", "in_words"]

logger = logging.getLogger(__name__)

# No spinner over the pictures, no entry in an API page, no waiting for another tab's event.
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None}


def in_words(error: Exception) -> str:
    """Return what to tell the person; an error that was not foreseen goes to the log in full."""
    if isinstance(error, PreferenceError):
        return str(error)
    logger.error("unexpected error in the panel", exc_info=error)
    return f"Something went wrong: {type(error).__name__}: {error}. The terminal has the details; nothing was lost."
