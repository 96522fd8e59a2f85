"""One model for all: one picture at a time, and who waits in front of the screen goes first."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ...adapters.errors import CancelledError
from .sources import Painter

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Brush"]


def never() -> bool:
    """Nobody cancels."""
    return False


class Brush:
    """A painter that several threads may use; it works for one of them at a time.

    Pictures made ahead give way: what is being painted for later is dropped when somebody asks for pictures now.

    Args:
        painter: The model.
    """

    def __init__(self, painter: Painter) -> None:
        self.painter = painter
        self.name = painter.name
        self._turn = threading.Condition()
        self._busy = False
        self._urgent = 0

    def images(
        self,
        prompt: str,
        seeds: Sequence[int],
        cancelled: Callable[[], bool] = never,
        urgent: bool = False,
        **options: Any,
    ) -> list[Image.Image]:
        """Paint when it is this caller's turn.

        Args:
            cancelled: Asked while waiting and between steps.
            urgent: Somebody waits for it; go before what is made ahead.
            **options: For the painter.

        Raises:
            CancelledError: `cancelled` said so, or somebody urgent came.
        """

        def give_way() -> bool:
            return cancelled() or (not urgent and self._urgent > 0)

        with self.turn(cancelled, urgent):
            return self.painter.images(prompt, seeds, cancelled=give_way, **options)

    @contextmanager
    def turn(self, cancelled: Callable[[], bool] = never, urgent: bool = True) -> Iterator[Painter]:
        """Give the painter to this caller alone.

        Raises:
            CancelledError: `cancelled` said so while waiting.
        """
        with self._turn:
            self._urgent += urgent
            try:
                while self._busy or (self._urgent > 0 and not urgent):
                    if cancelled():
                        raise CancelledError("Stopped; nothing was kept.")
                    self._turn.wait(0.1)
            except BaseException:
                self._urgent -= urgent
                raise
            self._busy = True
        try:
            yield self.painter
        finally:
            with self._turn:
                self._busy = False
                self._urgent -= urgent
                self._turn.notify_all()
