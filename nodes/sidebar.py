"""What the sidebar shows and saves: people, what was learned, files. No model is loaded for it, and no ComfyUI needed.

What was learned is computed from the vectors that the store has already, of the encoder that knows most of a person's
images; images that it doesn't know are left out until a graph with Fit Taste has run.
"""

from __future__ import annotations

import threading
import weakref
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from torch import Tensor

from ..adapters.comparisons import PreferenceStore
from ..adapters.comparisons.lines import write_lines
from ..adapters.encoders import ImageTextEncoder
from ..adapters.errors import ComparisonError, ImageError, NotEnoughAnswersError
from ..adapters.files import save_taste
from ..adapters.places import safe_name
from ..adapters.taste import fit_taste, learned_report

__all__ = ["FOLDER", "Learned", "export", "people", "seen"]

FOLDER = "palate"  # in ComfyUI's output folder
_FORMATS = {"taste": ".safetensors", "answers": ".jsonl"}
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
    """The store as somebody sees it who opens no picture: what has no vector yet is left out."""

    def __init__(self, store: PreferenceStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def image(self, image_id: str) -> NoReturn:
        raise ImageError(f"Cannot open image {image_id[:12]}…: only vectors that are there are used here.")


class Learned:
    """What was learned of each person, computed again when their answers or vectors change. Safe from any thread."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[object, dict[str, Any]]] = {}
        self._computing = threading.Lock()

    def of(self, store: PreferenceStore, person: str) -> dict[str, Any]:
        """Answers, undecided questions, and the fields of `LearningReport`, None where unknown.

        While it is being computed for new answers, the one before comes with `fresh` = False.
        """
        counts = {"person": person, "answers": store.count(person), "waiting": store.asked.count(person)}
        encoders = store.encoders(person)
        mark = store.revision(person), tuple(encoders)
        known = self._known.get(person)
        if known is None or known[0] != mark:
            if not self._computing.acquire(blocking=known is None):
                assert known is not None
                return known[1] | counts | {"fresh": False}
            try:
                known = mark, _report(store, person, _encoder(store, person))
                self._known[person] = known
            finally:
                self._computing.release()
        return known[1] | counts | {"fresh": True}


def people(store: PreferenceStore) -> dict[str, Any]:
    """Everybody who answered, who was here last first."""
    return {"people": [asdict(one) for one in store.people_answers()]}


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
        taste = fit_taste(_NoPictures(store), encoder, person)  # type: ignore[arg-type]
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


def _report(store: PreferenceStore, person: str, encoder: StoredEncoder | None) -> dict[str, Any]:
    nothing = dict.fromkeys(("accuracy", "low", "high", "curve", "enough", "advice", "encoder", "counted"))
    if encoder is None:
        return nothing
    report = learned_report(_NoPictures(store), encoder, person)  # type: ignore[arg-type]
    found = {name: value for name, value in asdict(report).items() if name not in ("hits", "answers", "person")}
    low, high = report.interval if report.accuracy is not None else (None, None)
    return nothing | found | {"low": low, "high": high, "counted": report.answers, "encoder": encoder.name}
