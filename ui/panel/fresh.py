"""What is worked out of a person's answers, and again only after a new one."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Generic, TypeVar

from ...adapters.errors import PreferenceError

__all__ = ["Fresh"]

logger = logging.getLogger(__name__)

T = TypeVar("T")
SHARE = 10.0  # a renewal in the background is followed by a rest of so many times its length, so that clicks stay quick


class Fresh(Generic[T]):
    """One result a person, kept with the revision of their answers that it was made of.

    Two threads that ask at once for one person's wait for one and the same result.

    Args:
        revision: Gives what changes with a person's answers, such as their revision.
        make: Works the result out.
    """

    def __init__(self, revision: Callable[[str], object], make: Callable[[str], T]) -> None:
        self._revision, self._make = revision, make
        self._kept: dict[str, tuple[object, T]] = {}
        self._turns: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._working: set[str] = set()
        self._rested: dict[str, float] = {}  # when the next renewal may begin, on the monotonic clock
        self._lock = threading.Lock()

    def of(self, person: str) -> T:
        """Return the result after the person's last answer, worked out now where it must be.

        Raises:
            Exception: what `make` raises; nothing is kept then.
        """
        with self._lock:
            turn = self._turns[person]
        with turn:
            revision = self._revision(person)
            kept = self._kept.get(person)
            if kept is None or kept[0] != revision:
                kept = self._kept[person] = (revision, self._make(person))
            return kept[1]

    def current(self, person: str) -> T | None:
        """Return the result if it is the one after the person's last answer; nothing is worked out."""
        kept = self._kept.get(person)
        return None if kept is None or kept[0] != self._revision(person) else kept[1]

    def latest(self, person: str) -> T | None:
        """Return what is known without waiting, maybe from some answers ago, and have it renewed in the background."""
        kept = self._kept.get(person)
        if kept is None or kept[0] != self._revision(person):
            with self._lock:
                rested = time.monotonic() >= self._rested.get(person, 0.0)
                begin = rested and person not in self._working
                if begin:
                    self._working.add(person)
            if begin:
                threading.Thread(target=self._renew, args=(person,), name="palate-fresh", daemon=True).start()
        return None if kept is None else kept[1]

    def _renew(self, person: str) -> None:
        begun = time.monotonic()
        try:
            self.of(person)
        except PreferenceError as error:
            logger.debug("not worked out: %s", error)
        except Exception:
            logger.warning("what was learned could not be worked out", exc_info=True)
        finally:
            ended = time.monotonic()
            with self._lock:
                self._working.discard(person)
                self._rested[person] = ended + SHARE * (ended - begun)
