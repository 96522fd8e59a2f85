"""One browser tab: whose answers, which pictures, the pair on the screen."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from ...adapters.comparisons import OUTCOMES, Comparison
from ...adapters.comparisons.comparison import check_person
from ...adapters.errors import ComparisonError
from .ahead import PairsAhead
from .maker import PairMaker
from .pair import Pair
from .sources import FolderSource, PromptSource, Source

if TYPE_CHECKING:
    from ...adapters.taste import Taste
    from .studio import Studio

__all__ = ["Session"]

LONGEST = 3600.0  # s: who answers after an hour was away, and the time says nothing


class Session:
    """What one tab shows and asks; safe to call from several threads.

    Args:
        studio: Store, model and encoder, shared by all tabs.
        person: Whose answers these are.
        seed: Fixes prompts, seeds and sides; None: different every time.
    """

    def __init__(self, studio: Studio, person: str, seed: int | None = None) -> None:
        self.studio = studio
        self.person = person
        self.current: Pair | None = None
        self.loaded: Taste | None = None
        self.closed = False
        self._cancel = threading.Event()
        self._seed = seed
        self._source: Source | None = None
        self._ahead: PairsAhead | None = None
        self._asked = time.monotonic()
        self._lock = threading.RLock()

    @property
    def source(self) -> Source | None:
        """Where the pictures come from; None before one was chosen."""
        return self._source

    @property
    def ready(self) -> int:
        """How many pairs wait behind the one on the screen."""
        return self._ahead.ready if self._ahead else 0

    @property
    def upcoming(self) -> Pair | None:
        """The pair that comes next, when it is made already."""
        return self._ahead.peek() if self._ahead else None

    def answers(self) -> int:
        """Return how many comparisons of this person say something about their taste (all but skipped ones)."""
        return sum(comparison.outcome != "skip" for comparison in self.studio.store.comparisons(self.person))

    def use_prompts(self, prompt: str = "") -> None:
        """Compare pictures of this prompt from now on, or of many example prompts when it is empty."""
        prompts = [prompt.strip()] if prompt.strip() else list(self.studio.example_prompts())
        self._use(PromptSource(self.studio.painter, prompts, self._seed))

    def use_folder(self, folder: str) -> FolderSource:
        """Compare the pictures of this folder from now on.

        Raises:
            ImageError: there is no such folder.
        """
        source = FolderSource(folder, self._seed)
        self._use(source)
        return source

    def use_person(self, person: str) -> None:
        """Answer as this person from now on; pairs chosen for another one are dropped.

        Raises:
            ComparisonError: nobody can have this name.
        """
        check_person(person)
        with self._lock:
            if person == self.person:
                return
            self.person, self.loaded = person, None
            if self._source is not None:
                self._use(self._source)

    def show(self, timeout: float | None = None) -> Pair | None:
        """Return the pair on the screen, waiting up to `timeout` seconds for the next; None when it isn't made.

        Raises:
            PreferenceError: no pair can be made; the message says what to do.
        """
        with self._lock:
            if self.current is not None or self._ahead is None:
                return self.current
            ahead, source = self._ahead, self._source
        pair = ahead.take(timeout)
        with self._lock:
            if pair is None or source is not self._source:  # the source changed meanwhile: drop it
                return self.current
            if self.current is None:
                self.current, self._asked = pair, time.monotonic()
            else:  # another call of this tab was faster
                ahead.put_back(pair)
            return self.current

    def answer(self, ticket: str, outcome: str, seconds: float | None = None) -> Comparison | None:
        """Store the answer to the pair on the screen, then take it off the screen.

        Args:
            ticket: The pair that the person saw. An answer to another one (a double click) is ignored.
            outcome: "left", "right", "tie", "both_bad" or "skip".
            seconds: Time to answer as the browser measured it; default: since the pair was handed out.

        Returns:
            What is now on disk, or None when the ticket is not the pair on the screen.

        Raises:
            StoreError: it could not be stored; the pair stays.
        """
        if outcome not in OUTCOMES:
            raise ComparisonError(f"Cannot store the answer: found {outcome!r}; expected one of {', '.join(OUTCOMES)}.")
        with self._lock:
            pair = self.current
            if pair is None or pair.ticket != ticket:
                return None
            taken = time.monotonic() - self._asked if seconds is None else seconds
            stored = self.studio.store.add(
                Comparison(
                    person=self.person,
                    left=pair.left,
                    right=pair.right,
                    outcome=outcome,
                    prompt=pair.prompt,
                    left_seed=pair.left_seed,
                    right_seed=pair.right_seed,
                    model=pair.model,
                    source="panel",
                    seconds=round(min(max(taken, 0.0), LONGEST), 3),
                )
            )
            self.current = None
            return stored

    def undo(self) -> Pair | None:
        """Take this person's last answer back and show that pair again; None when there is none."""
        with self._lock:
            undone = self.studio.store.undo(self.person)
            if undone is None:
                return None
            if self.current is not None and self._ahead is not None:
                self._ahead.put_back(self.current)
            self.current = Pair(
                undone.left,
                undone.right,
                undone.prompt,
                undone.left_seed,
                undone.right_seed,
                undone.model,
            )
            self._asked = time.monotonic()
            return self.current

    def start_generating(self) -> threading.Event:
        """Return what is set when the pictures that are now begun are not wanted any more; stops those before."""
        self.stop_generating()
        self._cancel = threading.Event()
        return self._cancel

    def stop_generating(self) -> None:
        """Stop what this tab is generating."""
        self._cancel.set()

    def close(self) -> None:
        """Stop making pairs."""
        self.closed = True
        self.stop_generating()
        with self._lock:
            ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead.close()

    def _use(self, source: Source) -> None:
        with self._lock:
            if self.closed:
                return
            self._source = source
            make = PairMaker(self.studio, source, self.person, self._seed)
            if self._ahead is None:
                self._ahead = PairsAhead(make)
            else:
                self._ahead.restart(make)
            self.current = None
