"""What all tabs share: the store, the model, the encoder, and tastes by person."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ...adapters.comparisons import PreferenceStore
from ...adapters.comparisons.comparison import check_person
from ...adapters.errors import NotEnoughAnswersError
from ...adapters.places import safe_name, tastes_folder
from .brush import Brush
from .session import Session
from .tools import Tools

if TYPE_CHECKING:
    from ...adapters.taste import LearningReport, Taste

__all__ = ["Learned", "Studio"]

logger = logging.getLogger(__name__)

SHOWN = 8  # pictures in each of the two rows of "Learned"


@dataclass(frozen=True)
class Learned:
    """What is known about one person: how well it predicts them, and the ends of their scale."""

    person: str
    answers: int
    report: LearningReport
    best: tuple[str, ...]
    worst: tuple[str, ...]


class Studio:
    """Store, model and encoder of one running panel; everything heavy is loaded when first used.

    Args:
        store_folder: Folder of the store, made when missing.
        tools: The functions that do the work; `tools.real_tools` or fakes.
        person: Whose answers a new tab collects; None: "me", or whom the browser remembers.

    Raises:
        ComparisonError: nobody can have this name.
        StoreError: the store can't be opened.
    """

    def __init__(self, store_folder: str | Path, tools: Tools, person: str | None = None) -> None:
        self.person = check_person(person or "me")
        self.store = PreferenceStore(store_folder)
        self.tools = tools
        self.person_given = person is not None
        self.closing = threading.Event()
        self._sessions: dict[str, Session] = {}
        self._tastes: dict[str, tuple[int, Taste]] = {}
        self._learned: dict[str, tuple[int, Learned]] = {}
        self._painter: Brush | None = None
        self._encoder: Any = None
        self._lock = threading.RLock()
        self._loading = {"painter": threading.Lock(), "encoder": threading.Lock()}

    # -- sessions

    def session(self, key: str) -> Session:
        """Return the session of a browser tab, a new one when the tab is new."""
        with self._lock:
            if key not in self._sessions:
                self._sessions[key] = Session(self, self.person)
            return self._sessions[key]

    def leave(self, key: str) -> None:
        """End the session of a tab that was closed."""
        with self._lock:
            session = self._sessions.pop(key, None)
        if session is not None:
            session.close()

    def shut(self) -> None:
        """Let everybody who waits for a picture go; the panel is about to close."""
        self.closing.set()
        for session in list(self._sessions.values()):
            session.stop_generating()

    def close(self) -> None:
        """End all sessions and close the store."""
        self.shut()
        for key in list(self._sessions):
            self.leave(key)
        self.store.close()

    # -- model and encoder

    def painter(self) -> Brush:
        """Return the model, loaded on first use, which paints for one caller at a time."""
        with self._loading["painter"]:
            if self._painter is None:
                self._painter = Brush(self.tools.painter())
            return self._painter

    def encoder(self) -> Any:
        """Return the encoder, loaded on first use."""
        with self._loading["encoder"]:
            if self._encoder is None:
                self._encoder = self.tools.encoder()
            return self._encoder

    def example_prompts(self) -> tuple[str, ...]:
        """Return prompts that suit the model, for somebody who has none of their own."""
        return self.tools.prompts()

    # -- what was learned

    def taste(self, person: str) -> Taste:
        """Return the person's taste after their last answer; fitted again only when there is a new one.

        Raises:
            NotEnoughAnswersError: nothing to learn from yet.
        """
        revision = self.store.revision(person)
        with self._lock:
            kept = self._tastes.get(person)
        if kept is not None and kept[0] == revision:
            return kept[1]
        taste = self.tools.fit(self.store, self.encoder(), person)
        with self._lock:
            self._tastes[person] = (revision, taste)
        return taste

    def learned(self, person: str) -> Learned:
        """Return what was learned about a person; worked out again only when there is a new answer.

        Raises:
            NotEnoughAnswersError: nothing to learn from yet.
        """
        revision = self.store.revision(person)
        with self._lock:
            kept = self._learned.get(person)
        if kept is not None and kept[0] == revision:
            return kept[1]
        comparisons = [one for one in self.store.comparisons(person) if one.outcome != "skip"]
        if not comparisons:
            raise NotEnoughAnswersError("There is nothing to show yet. Answer a few pairs under Compare first.")
        taste = self.taste(person)
        report = self.tools.report(self.store, self.encoder(), person)
        sides = list(dict.fromkeys(side for one in comparisons for side in (one.left, one.right)))
        vectors = self.tools.vectors(self.store, self.encoder(), [side for side in sides if self.store.has_image(side)])
        utility = taste.utility(torch.stack(list(vectors.values()))).tolist() if vectors else []
        order = [side for _, side in sorted(zip(utility, vectors, strict=True), reverse=True)]
        shown = min(SHOWN, len(order) // 2)
        learned = Learned(person, len(comparisons), report, tuple(order[:shown]), tuple(order[::-1][:shown]))
        with self._lock:
            self._learned[person] = (revision, learned)
        return learned

    # -- taste files

    @property
    def tastes_folder(self) -> Path:
        """Folder that taste files are saved to."""
        return tastes_folder()

    def save_taste(self, person: str) -> Path:
        """Save the person's taste as a file in `tastes_folder` and return its path."""
        taste = self.taste(person)
        return self.tools.save(taste, self.tastes_folder / f"{safe_name(person)}.safetensors")

    def load_taste(self, path: str | Path) -> Taste:
        """Load a taste that fits this panel's encoder.

        Raises:
            FileFormatError: the file is not a taste.
            EncoderMismatchError: it was learned with another encoder.
        """
        return self.tools.load(Path(path), self.encoder())
