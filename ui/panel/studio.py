"""What all tabs share: the store, the model, the encoder, and tastes by person."""

from __future__ import annotations

import contextlib
import gc
import logging
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ...adapters.comparisons import PreferenceStore
from ...adapters.comparisons.comparison import check_person
from ...adapters.errors import EncoderError, NotEnoughAnswersError
from ...adapters.places import palate_home, safe_name, tastes_folder
from ...adapters.taste import agreement
from .brush import Brush
from .fresh import Fresh
from .half_lives import HalfLives
from .loading import Loading
from .progress import FIRST_LOOK
from .session import Session
from .tools import Tools
from .wanted import Wishes

if TYPE_CHECKING:
    from ...adapters.taste import LearningReport, Taste

__all__ = ["Studio"]

logger = logging.getLogger(__name__)

COMPARED = 6  # people in the table of who is alike
PICTURES = 120  # pairs of pictures that they are compared on


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
        self.wishes = Wishes(palate_home() / "panel")
        self.half_lives = HalfLives(palate_home() / "panel" / "half_life")
        self.reports: Fresh[LearningReport] = Fresh(
            self.learned_of, lambda person: self.tools.report(self.store, self.encoder(), person, **self.faded(person))
        )
        self._sessions: dict[str, Session] = {}
        self._tabs: dict[str, str] = {}  # key of a browser tab by what Gradio calls its page
        self._tastes: Fresh[Taste] = Fresh(
            self.learned_of, lambda person: self.tools.fit(self.store, self.encoder(), person, **self.faded(person))
        )
        self._painter: Brush | None = None
        self._encoder: Any = None
        self._lock = threading.RLock()
        self.loading = Loading("the encoder", "the model")
        self._loading = {"painter": threading.Lock(), "encoder": threading.Lock()}

    # -- sessions

    def session(self, key: str, person: str | None = None) -> Session:
        """Return the session of a browser tab, a new one when the tab is new.

        Args:
            key: The tab's own, or what Gradio calls its page.
            person: Whose answers the tab collects from now on; None: as before.

        Raises:
            ComparisonError: nobody can have this name.
        """
        with self._lock:
            key = self._tabs.get(key, key)
            if key not in self._sessions:
                self._sessions[key] = Session(self, check_person(person or self.person))
            session = self._sessions[key]
        if person is not None:
            session.use_person(person)
        return session

    def arrive(self, page: str, key: str) -> None:
        """Know which browser tab a page of Gradio's lies in; a tab that was reloaded has another page."""
        with self._lock:
            self._tabs[page] = key

    def leave(self, key: str) -> None:
        """End the session of a tab that was closed; one that was reloaded goes on with its new page."""
        with self._lock:
            tab = self._tabs.pop(key, key)
            session = None if tab in self._tabs.values() else self._sessions.pop(tab, None)
        if session is not None:
            session.close()

    def held(self, but: Session) -> frozenset[str]:
        """Return the tickets that other tabs' browsers hold."""
        with self._lock:
            others = [session for session in self._sessions.values() if session is not but]
        return frozenset().union(*(session.tickets for session in others))

    def shut(self) -> None:
        """Let everybody who waits for a picture go; the panel is about to close."""
        self.closing.set()

    def close(self) -> None:
        """End all sessions and close the store."""
        self.shut()
        with self._lock:  # open pages, too
            sessions = list(self._sessions.values())
            self._sessions.clear()
            self._tabs.clear()
        for session in sessions:
            session.close()
        self.store.close()

    # -- model and encoder

    def painter(self) -> Brush:
        """Return the model, loaded on first use, which paints for one caller at a time."""
        with self._loading["painter"]:
            if self._painter is None:
                with contextlib.suppress(EncoderError):  # without one it paints, too; learning will say what is missing
                    self.encoder()
                with self.loading.step("the model"):
                    self._painter = Brush(self.tools.painter())
            return self._painter

    def loaded_painter(self) -> Any:
        """Return the model itself if it is loaded already, else None."""
        return None if self._painter is None else self._painter.painter

    def encoder(self) -> Any:
        """Return the encoder, loaded on first use."""
        with self._loading["encoder"]:
            if self._encoder is None:
                with self.loading.step("the encoder"):
                    self._encoder = self.tools.encoder()
            return self._encoder

    def rest(self) -> None:
        """Let go of the model on a GPU, so that a training has its memory; whoever paints next loads it again."""
        if not torch.cuda.is_available():
            return
        with self._loading["painter"]:
            self._painter = None
        gc.collect()
        torch.cuda.empty_cache()

    def warm(self) -> None:
        """Load in the background what the first pair will need, so that it comes sooner."""
        threading.Thread(target=self._warm, name="palate-warm", daemon=True).start()

    def _warm(self) -> None:
        wished = self.wishes.of(self.person)
        try:
            self.encoder() if wished is not None and wished.folder else self.painter()
        except Exception as error:  # whoever needs it is told
            logger.debug("not loaded ahead: %s", error)

    def example_prompts(self) -> tuple[str, ...]:
        """Return prompts that suit the model, for somebody who has none of their own."""
        return self.tools.prompts()

    # -- what was learned

    def taste(self, person: str) -> Taste:
        """Return the person's taste after their last answer; fitted again only when there is a new one.

        Raises:
            NotEnoughAnswersError: nothing to learn from yet.
        """
        return self._tastes.of(person)

    def learned_of(self, person: str) -> object:
        """Return what a taste hangs on: it differs after each answer, and with another half-life."""
        return self.store.revision(person), self.half_lives.of(person)

    def faded(self, person: str) -> dict[str, float]:
        """Return the half-life for the functions that learn; nothing where all answers count alike."""
        days = self.half_lives.of(person)
        return {} if days is None else {"half_life": days}

    def alike(self) -> tuple[list[str], Any]:
        """Return who was here lately and has answered enough, and how often each two would choose the same picture.

        Returns:
            At most `COMPARED` names, and shares (P, P) in [0, 1].
        """
        found = [one.person for one in self.store.people_answers() if one.answers >= FIRST_LOOK][:COMPARED]
        tastes, sides = [], []
        for person in list(found):
            try:
                tastes.append(self.taste(person))
            except NotEnoughAnswersError:  # all both bad
                found.remove(person)
                continue
            newest = self.store.newest(person, PICTURES // COMPARED)
            sides += [side for one in newest for side in (one.left, one.right) if self.store.has_image(side)]
        vectors = self.tools.vectors(self.store, self.encoder(), list(dict.fromkeys(sides))) if len(found) > 1 else {}
        if not vectors:
            return [], []
        return found, agreement(tastes, torch.stack(list(vectors.values())))

    # -- taste files

    @property
    def tastes_folder(self) -> Path:
        """Folder that taste files are saved to."""
        return tastes_folder()

    def save_taste(self, person: str) -> Path:
        """Save the person's taste as a file in `tastes_folder` and return its path."""
        taste = replace(self.taste(person), accuracy=self.reports.of(person).measured)
        return self.tools.save(taste, self.tastes_folder / f"{safe_name(person)}.safetensors")
