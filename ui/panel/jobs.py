"""Work that takes a while, by id: how far it is, what it has made so far, and a way to stop it."""

from __future__ import annotations

import logging
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from ...adapters.errors import CancelledError, PreferenceError

__all__ = ["Job", "Jobs"]

logger = logging.getLogger(__name__)

KEPT = 64  # jobs that can still be asked about
WORKING, DONE, STOPPED, FAILED = "working", "done", "stopped", "failed"


class Job:
    """One piece of work, told by the thread that does it and asked by those that show it.

    Args:
        closing: Set when the panel closes, which stops it, too.

    Attributes:
        id: Unguessable.
        found: What it has made so far; whoever works on it only ever adds.
    """

    def __init__(self, closing: threading.Event | None = None) -> None:
        self._closing = closing or threading.Event()
        self.id = uuid.uuid4().hex
        self.found: dict[str, Any] = {}
        self._state, self._share, self._text, self._error = WORKING, 0.0, "", ""
        self._cancel = threading.Event()
        self._over = threading.Event()

    def tell(self, share: float, text: str | None = None) -> None:
        """Say how far it is, 0 to 1, and what it is at."""
        self._share = min(max(share, 0.0), 1.0)
        if text is not None:
            self._text = text

    def cancelled(self) -> bool:
        """Whether nobody wants it any more."""
        return self._cancel.is_set() or self._closing.is_set()

    def stop(self) -> None:
        """Ask it to end; what it has made stays."""
        self._cancel.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is over; return whether it is."""
        return self._over.wait(timeout)

    def state(self) -> dict[str, Any]:
        """Return what is shown of it."""
        return {
            "job": self.id,
            "state": self._state,
            "share": round(self._share, 4),
            "text": self._text,
            "error": self._error,
            **self.found,
        }

    def run(self, work: Callable[[Job], None]) -> None:
        """Do the work in this thread; an error becomes what is said of it."""
        try:
            work(self)
            self._state, self._share = DONE, 1.0
        except CancelledError:
            self._state = STOPPED
        except PreferenceError as error:
            self._state, self._error = FAILED, str(error)
        except Exception as error:
            logger.exception("unexpected error in the panel")
            self._state = FAILED
            what = f"{type(error).__name__}: {error}"
            self._error = f"Something went wrong: {what}. The terminal has the details; nothing was lost."
        finally:
            self._over.set()


class Jobs:
    """All jobs of one running panel.

    Args:
        closing: Set when the panel closes: nothing new is begun then.
    """

    def __init__(self, closing: threading.Event) -> None:
        self._closing = closing
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._current: dict[str, Job] = {}
        self._lock = threading.Lock()

    def start(self, owner: str, work: Callable[[Job], None]) -> Job:
        """Begin work in a thread of its own; what this owner had begun before is stopped.

        Raises:
            CancelledError: the panel is closing.
        """
        if self._closing.is_set():
            raise CancelledError("Cannot begin: the panel is closing; expected an open one. Open it again.")
        job = Job(self._closing)
        with self._lock:
            before = self._current.get(owner)
            if before is not None:
                before.stop()
            self._current[owner] = self._jobs[job.id] = job
            over = [one.id for one in self._jobs.values() if one.wait(0)]
            for one in over[: max(len(self._jobs) - KEPT, 0)]:  # one that goes on is still asked about
                del self._jobs[one]
        threading.Thread(target=job.run, args=(work,), name="palate-job", daemon=True).start()
        return job

    def get(self, job_id: str) -> Job | None:
        """Return a job, None when it is unknown or long over."""
        return self._jobs.get(job_id)
