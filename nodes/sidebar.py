"""What the sidebar shows and saves: people, what was learned, files. No model is loaded for it, and no ComfyUI needed.

What was learned is computed from the vectors that the store has already, of the encoder that knows most of a person's
images; images that it doesn't know are left out until a graph with Fit Taste has run.
"""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections.abc import Sequence
from concurrent import futures
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from torch import Tensor

from ..adapters.comparisons import Comparison, PreferenceStore
from ..adapters.comparisons.lines import write_lines
from ..adapters.encoders import ImageTextEncoder
from ..adapters.errors import ComparisonError, ImageError, NotEnoughAnswersError
from ..adapters.files import save_taste
from ..adapters.places import safe_name
from ..adapters.taste import (
    FIRST_SLIPS,
    MOST_SLIPS,
    Suspect,
    Taste,
    count_kept_words,
    fit_taste,
    learned_report,
    second_look,
    unsettled,
)
from .shown import SHOWN, from_pictures

__all__ = ["FOLDER", "Learned", "export", "people", "seen"]

PATIENCE = 2.0  # seconds
REST = 10.0  # seconds after a computation that failed, in which whoever asks is told the same
QUICK = 0.5  # seconds that a question waits for a taste, which says whether it is the one to ask
FOLDER = "palate"  # in ComfyUI's output folder
_FORMATS = {"taste": ".safetensors", "answers": ".jsonl"}
_UNKNOWN = ("accuracy", "low", "high", "curve", "enough", "verdict", "advice", "encoder", "counted", *SHOWN)
_SEEN: weakref.WeakValueDictionary[str, ImageTextEncoder] = weakref.WeakValueDictionary()


@dataclass(frozen=True)
class StoredEncoder:
    """An encoder as far as it is known without its file."""

    identity: str
    name: str
    dim: int
    text_projection: Tensor | None = None
    has_text: bool = False

    def encode_images(self, images: Any) -> NoReturn:
        raise ImageError("Cannot encode pictures without the encoder: queue a graph with Fit Taste.")


class _NoPictures:
    """The store as somebody sees it who opens no picture: answers about images without a vector aren't there."""

    def __init__(self, store: PreferenceStore, encoder: StoredEncoder) -> None:
        self._store, self._identity = store, encoder.identity

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def comparisons(self, person: str | None = None, since: float | None = None) -> list[Comparison]:
        found = self._store.comparisons(person, since)
        known = self._store.vectors(self._identity, [image for one in found for image in (one.left, one.right)])
        return [one for one in found if one.left in known and one.right in known]

    def image(self, image_id: str) -> NoReturn:
        raise ImageError(f"Cannot open image {image_id[:12]}…: only vectors that are there are used here.")


@dataclass(frozen=True)
class _Known:
    """A report, of which answers and vectors it is, and when it may be computed again at the earliest."""

    mark: object
    report: dict[str, Any]
    again: float


@dataclass(frozen=True)
class _Job:
    """A person's turn: first their taste, then the report about it."""

    person: str
    taste: futures.Future[None]
    report: futures.Future[None]


class Learned:
    """What was learned of each person, computed again when their answers or vectors change. Safe from any thread.

    With 5,000 answers that takes seconds, beside images that are being made. So it is done in a thread, for one person
    at once, and takes no more than a tenth of the time; and nobody waits for it longer than `PATIENCE`.
    """

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}
        self._tastes: dict[str, tuple[object, Taste | None]] = {}
        self._suspects: dict[str, tuple[Suspect, ...]] = {}
        self._job: _Job | None = None
        self._failed: dict[str, tuple[float, _Job]] = {}  # until when it isn't tried again, and what failed
        self._lock = threading.Lock()

    def of(self, store: PreferenceStore, person: str) -> dict[str, Any]:
        """Answers, undecided questions, and the fields of `LearningReport`, None where unknown.

        Until it is computed for new answers, what was known before comes with `fresh` = False.
        """
        counts = {"person": person, "answers": store.count(person), "waiting": store.asked.count(person)}
        encoders = store.encoders(person)
        if not encoders:
            return dict.fromkeys(_UNKNOWN) | counts | {"slips": 0, "fresh": True}
        mark = _mark(store, person, encoders)
        job = self._begin(store, person, mark)
        if job is not None:
            _wait(job.report, PATIENCE)
        known = self._known.get(person)
        report = dict.fromkeys(_UNKNOWN) if known is None else known.report
        slips = len(self.slips(store, person))
        return report | counts | {"slips": slips, "fresh": known is not None and known.mark == mark}

    def slips(self, store: PreferenceStore, person: str) -> list[Comparison]:
        """Answers that look like mistakes, as they are now, likeliest first; none of few answers."""
        suspects = self._suspects.get(person, ()) if store.count(person) >= FIRST_SLIPS else ()
        return unsettled(store, person, suspects) if suspects else []

    def taste(self, store: PreferenceStore, person: str) -> Taste | None:
        """As it was learned last, None where nothing was; new answers are learned from, if that is quick."""
        encoders = store.encoders(person)
        if not encoders:
            return None
        mark = _mark(store, person, encoders)
        if self._tastes.get(person, (None, None))[0] != mark:
            job = self._begin(store, person, mark)
            if job is not None:
                _wait(job.taste, QUICK)
        return self._tastes.get(person, (None, None))[1]

    def _begin(self, store: PreferenceStore, person: str, mark: object) -> _Job | None:
        """Compute in a thread of its own; None while that isn't due, or another person's turn lasts."""
        with self._lock:
            if self._job is not None and not self._job.report.done():
                return self._job if self._job.person == person else None
            known = self._known.get(person)
            if known is not None and (known.mark == mark or time.monotonic() < known.again):
                return None
            rested, failed = self._failed.get(person, (0.0, None))
            if failed is not None and time.monotonic() < rested:
                return failed
            self._job = job = _Job(person, futures.Future(), futures.Future())

        def work() -> None:
            try:
                began = time.monotonic()
                taste = _taste(store, person)
                self._tastes[person] = mark, taste
                job.taste.set_result(None)
                report = _report(store, person) | from_pictures(store, person, taste)
                self._suspects[person] = _suspects(store, person)
                now = time.monotonic()
                self._known[person] = _Known(mark, report, now + 9.0 * (now - began))
                self._failed.pop(person, None)
                job.report.set_result(None)
            except Exception as error:
                self._failed[person] = time.monotonic() + REST, job
                for one in (job.taste, job.report):
                    if not one.done():
                        one.set_exception(error)

        threading.Thread(target=work, name="palate-learned", daemon=True).start()
        return job


def _mark(store: PreferenceStore, person: str, encoders: Sequence[Any]) -> object:
    """What a report hangs on: another one after each answer, each new vector, and once words can be said."""
    return store.revision(person), tuple(encoders), count_kept_words(store, encoders[0].identity)


def _wait(job: futures.Future[None], patience: float) -> None:
    with contextlib.suppress(futures.TimeoutError):
        job.result(patience)


def people(store: PreferenceStore) -> dict[str, Any]:
    """Everybody who answered, who was here last first, and then who was only asked, with how much waits for each."""
    waiting = store.asked.waiting()
    known = [asdict(one) | {"waiting": waiting.pop(one.person, 0)} for one in store.people_answers()]
    return {"people": known + [{"person": one, "answers": 0, "waiting": count} for one, count in waiting.items()]}


def seen(encoder: ImageTextEncoder) -> None:
    """Remember an encoder by its identity for as long as somebody uses it: files then say its name."""
    _SEEN[encoder.identity] = encoder


def export(store: PreferenceStore, person: str, kind: str, output: Path) -> dict[str, str]:
    """Write a person's taste or answers into the folder `FOLDER` of `output`; a file of theirs is replaced.

    Returns:
        `file` and `subfolder`, as ComfyUI names files of its output folder.

    Raises:
        ComparisonError: no such kind of file.
        NotEnoughAnswersError: nothing to save yet.
        OSError: it can't be written.
    """
    if kind not in _FORMATS:
        raise ComparisonError(f"Cannot save: format is {ascii(kind)[:40]}; expected 'taste' or 'answers'.")
    file = output / FOLDER / f"{safe_name(person)}{_FORMATS[kind]}"
    encoder = _encoder(store, person)
    if kind == "taste" and encoder is not None:
        taste = fit_taste(_NoPictures(store, encoder), encoder, person)  # type: ignore[arg-type]
        file.parent.mkdir(parents=True, exist_ok=True)
        save_taste(taste, file)
    elif kind == "answers" and store.count(person):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_lines(store, person, file)
    else:
        raise NotEnoughAnswersError(
            f"Cannot save the {kind} of {person[:60]!r}: found nothing yet; expected answers"
            + (
                ", and a run of Fit Taste on them. Queue a graph with Fit Taste."
                if kind == "taste"
                else ". Answer first."
            )
        )
    return {"file": file.name, "subfolder": FOLDER}


def _encoder(store: PreferenceStore, person: str) -> StoredEncoder | None:
    """The encoder that knows most of this person's images."""
    for known in store.encoders(person)[:1]:
        encoder = StoredEncoder(known.identity, f"encoder {known.identity[:12]}", known.width)
        loaded = _SEEN.get(known.identity)
        return encoder if loaded is None else replace(encoder, name=loaded.name, text_projection=loaded.text_projection)
    return None


def _taste(store: PreferenceStore, person: str) -> Taste | None:
    encoder = _encoder(store, person)
    if encoder is None:
        return None
    try:
        return fit_taste(_NoPictures(store, encoder), encoder, person)  # type: ignore[arg-type]
    except NotEnoughAnswersError:
        return None


def _suspects(store: PreferenceStore, person: str) -> tuple[Suspect, ...]:
    encoder = _encoder(store, person)
    if encoder is None:
        return ()
    return second_look(_NoPictures(store, encoder), encoder, person, MOST_SLIPS)  # type: ignore[arg-type]


def _report(store: PreferenceStore, person: str) -> dict[str, Any]:
    encoder = _encoder(store, person)
    if encoder is None:
        return dict.fromkeys(_UNKNOWN)
    report = learned_report(_NoPictures(store, encoder), encoder, person)  # type: ignore[arg-type]
    found = {name: value for name, value in asdict(report).items() if name not in ("hits", "answers", "person")}
    low, high = report.interval if report.accuracy is not None else (None, None)
    return found | {"low": low, "high": high, "counted": report.answers, "encoder": encoder.name}
