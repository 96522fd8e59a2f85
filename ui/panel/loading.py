"""What is being loaded, which step that is, and for how long: for somebody who waits for the first pair."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Loading"]


class Loading:
    """Steps of loading, one after the other; each is done once.

    Args:
        steps: Their names, in their order; what follows them all is one step more.
    """

    def __init__(self, *steps: str) -> None:
        self._steps = steps
        self._running: dict[str, float] = {}  # when it began, on the monotonic clock
        self._lock = threading.Lock()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Be at this step for as long as the block lasts."""
        with self._lock:
            self._running[name] = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self._running.pop(name, None)

    @property
    def text(self) -> str:
        """The latest step that is going on, in words; "" for none."""
        with self._lock:
            running = [name for name in self._steps if name in self._running]
            if not running:
                return ""
            seconds = time.monotonic() - self._running[running[-1]]
        number = self._steps.index(running[-1]) + 1
        return f"Loading {running[-1]}: step {number} of {len(self._steps) + 1}, {seconds:.0f}\u00a0s"
