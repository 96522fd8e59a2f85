"""How the page's events run: quietly, in any number, and never ending in a traceback on the screen."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import gradio as gr

from ...adapters.errors import PreferenceError

if TYPE_CHECKING:
    from .session import Session
    from .studio import Studio

__all__ = ["QUIET", "in_words", "session_of", "shown"]

logger = logging.getLogger(__name__)

FAILED = "That did not work"
# No spinner over the pictures, no entry in an API page, no waiting for another tab's event.
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None}


def session_of(studio: Studio, request: gr.Request) -> Session:
    """Return the session of the tab that sent the request."""
    return studio.session(str(request.session_hash))


def in_words(error: Exception) -> str:
    """Return what to tell the person; an error that was not foreseen goes to the log in full."""
    if isinstance(error, PreferenceError):
        return str(error)
    logger.error("unexpected error in the panel", exc_info=error)
    return f"Something went wrong: {type(error).__name__}: {error}. The terminal has the details; nothing was lost."


def shown(function: Callable[..., Any]) -> Callable[..., Any]:
    """Turn any error of an event into a message on the page, here and nowhere else."""
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def stepwise(*arguments: Any, **keywords: Any) -> Iterator[Any]:
            try:
                yield from function(*arguments, **keywords)
            except gr.Error:
                raise
            except Exception as error:
                raise gr.Error(in_words(error), title=FAILED, print_exception=False) from error

        return stepwise

    @functools.wraps(function)
    def once(*arguments: Any, **keywords: Any) -> Any:
        try:
            return function(*arguments, **keywords)
        except gr.Error:
            raise
        except Exception as error:
            raise gr.Error(in_words(error), title=FAILED, print_exception=False) from error

    return once
