"""Portable embeddings: a taste as a word for other tools, trained in the background, kept in PALATE_HOME/embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...adapters.errors import CancelledError, FileFormatError, StoreError
from ...adapters.files import require_replaceable
from ...adapters.places import palate_home
from ...adapters.steering.neutral_prompts import training_prompts
from .blends import PERSON, Blends, Part
from .jobs import Job

if TYPE_CHECKING:
    from .studio import Studio

__all__ = ["Embeddings"]

ENDING = ".safetensors"


class Embeddings:
    """The embedding files of one folder.

    Args:
        studio: Gives the model and the tools.
        blends: Gives people's tastes.
    """

    def __init__(self, studio: Studio, blends: Blends) -> None:
        self._studio, self._blends = studio, blends
        self._removed: dict[str, bytes] = {}

    @property
    def folder(self) -> Path:
        """Where they are, made when missing."""
        folder = palate_home() / "embeddings"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def files(self) -> list[Path]:
        """Return all files, newest first."""
        found = [path for path in self.folder.glob(f"*{ENDING}") if not path.name.startswith(".")]
        return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)

    def path(self, name: str) -> Path:
        """Return the path of a file.

        Raises:
            FileFormatError: there is none of this name.
        """
        for path in self.files():
            if path.name == name:
                return path
        raise FileFormatError(f"Cannot give {name[:80]!r}: there is no such embedding; expected one that is listed.")

    def remove(self, name: str) -> None:
        """Delete a file; `restore` brings it back as long as the panel runs.

        Raises:
            FileFormatError: there is none of this name.
            StoreError: the folder can't be written.
        """
        path = self.path(name)
        try:
            self._removed[name] = path.read_bytes()
            path.unlink()
        except OSError as error:
            raise _unwritable(path, error) from error

    def restore(self, name: str) -> Path:
        """Put back what was removed, unless there is a new one of its name.

        Raises:
            FileFormatError: nothing of this name was removed.
            StoreError: the folder can't be written.
        """
        if name not in self._removed or (self.folder / name).exists():
            return self.path(name)
        path = self.folder / name
        part = path.with_name(f".{name}.part")
        try:
            part.write_bytes(self._removed[name])
            part.replace(path)
        except OSError as error:
            raise _unwritable(path, error) from error
        del self._removed[name]
        return path

    def make(self, person: str, name: str, job: Job, named: bool = True) -> None:
        """Train an embedding of this person's taste and save it under a name; the job's `said` tells its effect.

        `named` False leaves out whose taste it is.

        Raises:
            CancelledError: the job was stopped; nothing is kept.
            PreferenceError: there is nothing to learn from, the model can't take one, or the name can't be used.
        """
        path = self.folder / f"{name.strip()}{ENDING}"
        self._studio.tools.check_embedding_name(name.strip())
        require_replaceable(path, person if named else "")
        job.tell(0.0, "Reading your taste…")
        tastes = self._blends.of([Part(f"{PERSON}{person}", 1.0)])
        job.tell(0.0, "Loading the model…")
        painter = self._studio.painter()

        def on_step(step: int, steps: int) -> None:
            job.tell(step / max(steps, 1), f"Training… {step} of {steps}")

        own = [answer.prompt for answer in self._studio.store.comparisons(person)]
        prompts = training_prompts(own, self._studio.example_prompts())
        with painter.turn(job.cancelled) as model:
            embedding = self._studio.tools.embed(model, tastes, prompts, on_step, job.cancelled)
        if job.cancelled():
            raise CancelledError("Stopped; nothing was kept.")
        if not named:
            embedding = replace(embedding, person="")
        saved = self._studio.tools.save_embedding(embedding, path)
        job.found["file"] = saved.name
        job.found["said"] = f"Saved as {saved.name}. {_effect(embedding.effect)}".strip()


def _unwritable(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"Cannot change {path.name!r}: {error.strerror or error}; expected a folder with room that can be written. "
        f"Look at {path.parent}."
    )


def _effect(effect: Mapping[str, float]) -> str:
    degrees, kept = effect.get("degrees"), effect.get("kept")
    if degrees is None:
        return ""
    return f"It turns a prompt by {degrees:.0f}°{'' if kept is None else f' and keeps {kept:.0%} of what it says'}."
