"""Waiting for a person's choice while the rest of the graph goes on. No ComfyUI here.

Whether somebody answered is read from the store, the only truth: so it doesn't matter where a click came from (this
browser tab or another, the sidebar, another process), no answer passes between the server's thread and the
executor's, and two that wait can't be mixed up, since each looks at its own offers. What is kept here is only who
waits, so that a page that was opened again can say so.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["WAITS", "Wait", "Waits", "until"]

PAUSE = 0.1  # seconds between two looks: not felt by who clicks, and nothing for the computer


@dataclass(frozen=True)
class Wait:
    """One node that waits.

    Attributes:
        node: ComfyUI's id of the node in this run; "1:2" inside subgraphs. prompt_id: The run.
        index: Which of several calls in that run, when the node was given a list.
        client: ComfyUI's id of the browser tab that queued the run; None for others.
        person: Who is asked. offers: What is asked.
        deadline: When it stops waiting, in seconds since 1970; None for never.
    """

    node: str
    prompt_id: str
    index: int
    client: str | None
    person: str
    offers: tuple[str, ...]
    deadline: float | None = None

    def told(self) -> dict[str, Any]:
        """For the browser."""
        return asdict(self) | {"offers": list(self.offers)}


class Waits:
    """All that wait now. Safe from any thread."""

    def __init__(self) -> None:
        self._waits: dict[tuple[str, str, int], Wait] = {}
        self._lock = threading.Lock()

    @contextmanager
    def during(self, wait: Wait) -> Iterator[None]:
        """Be in the list while the block runs, however it ends."""
        key = wait.prompt_id, wait.node, wait.index
        with self._lock:
            self._waits[key] = wait
        try:
            yield
        finally:
            with self._lock:
                self._waits.pop(key, None)

    def all(self) -> list[Wait]:
        """Whoever waits, for whomever."""
        with self._lock:
            return list(self._waits.values())

    def of(self, person: str) -> list[Wait]:
        """Those that wait for this person."""
        return [wait for wait in self.all() if wait.person == person]


WAITS = Waits()  # of this process, as ComfyUI's queue is


async def until(done: Callable[[], bool], deadline: float | None, interrupted: Callable[[], None]) -> bool:
    """Wait until `done`, without holding up the loop; return False when the time is over first.

    Args:
        done: Looks whether it is over.
        deadline: Seconds since 1970; None waits for as long as it takes.
        interrupted: Raises when the run was cancelled.
    """
    while not done():
        interrupted()
        if deadline is not None and time.time() >= deadline:
            return False
        await asyncio.sleep(PAUSE)
    return True
