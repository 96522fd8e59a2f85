"""The next pairs, made in the background while you look at this one."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from .pair import Pair

__all__ = ["Make", "PairsAhead"]

logger = logging.getLogger(__name__)


class Make(Protocol):
    """Makes one pair; `hurry` when nothing is ready, `cancelled()` turns true when nobody wants it any more."""

    def __call__(self, hurry: bool, cancelled: Callable[[], bool]) -> Pair | None: ...


class PairsAhead:
    """A short queue that one worker thread keeps full.

    Args:
        make: Makes one pair. None, or an exception, is handed to the next `take`; the worker then waits until
            somebody takes again, so that a broken source isn't tried over and over.
        depth: Pairs to hold ready, at least 1.
    """

    def __init__(self, make: Make, depth: int = 2) -> None:
        self._make = make
        self._depth = depth
        self._ready: deque[Pair] = deque()
        self._failure: Exception | None = None
        self._epoch = 0
        self._closed = False
        self._change = threading.Condition()
        self._worker: threading.Thread | None = None

    @property
    def ready(self) -> int:
        """How many pairs wait to be shown."""
        return len(self._ready)

    def take(self, timeout: float | None = None) -> Pair | None:
        """Return the next pair, waiting up to `timeout` seconds; None when it still isn't made.

        Raises:
            Exception: whatever making it raised; once, then the worker tries again.
        """
        with self._change:
            self._start()
            self._change.wait_for(lambda: self._ready or self._failure or self._closed, timeout)
            if self._ready:
                self._change.notify_all()
                return self._ready.popleft()
            failure, self._failure = self._failure, None
            self._change.notify_all()
            if failure:
                raise failure
            return None

    def restart(self, make: Make | None = None) -> None:
        """Drop what is ready and what is being made, and go on with `make` (default: as before)."""
        with self._change:
            self._epoch += 1
            self._ready.clear()
            self._failure = None
            self._make = make or self._make
            self._change.notify_all()

    def close(self, timeout: float = 1.0) -> None:
        """Stop the worker; what it is making now is cancelled."""
        with self._change:
            self._closed = True
            self._epoch += 1
            self._ready.clear()
            self._change.notify_all()
        if self._worker is not None and self._worker is not threading.current_thread():
            self._worker.join(timeout)

    def _start(self) -> None:
        if self._worker is None and not self._closed:
            self._worker = threading.Thread(target=self._work, name="palate-pairs", daemon=True)
            self._worker.start()

    def _wanted(self) -> bool:
        return self._closed or (len(self._ready) < self._depth and self._failure is None)

    def _work(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(self._wanted)
                if self._closed:
                    return
                make, epoch, hurry = self._make, self._epoch, not self._ready
            pair, failure = None, None
            try:
                pair = make(hurry, lambda epoch=epoch: self._epoch != epoch)  # type: ignore[misc]
            except Exception as error:
                logger.info("no pair could be made", exc_info=True)
                failure = error
            with self._change:
                if self._epoch == epoch:
                    if pair is not None:
                        self._ready.append(pair)
                    elif failure is not None:
                        self._failure = failure
                    self._change.notify_all()
