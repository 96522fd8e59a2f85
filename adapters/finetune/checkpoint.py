"""Where a training stands, on disk: either whole or as it was before; one training at a time in a folder."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import torch

from ..errors import FileFormatError, FineTuneError
from ..untrusted import unpickled
from .several import Several

__all__ = [
    "STAGE",
    "begin_training",
    "checkpoint_of",
    "forget_checkpoint",
    "has_checkpoint",
    "of_another_version",
    "only_training",
    "read_checkpoint",
    "was_stopped",
    "write_checkpoint",
]

STAGE = "stage "  # folders in a training's begin so, one for each stage before the last
_OR_ANEW = "begin anew (--anew; Begin anew in the panel, begin_anew of the node), or choose another name"
_FILE, _LOCK, _DRAFT = "checkpoint.pt", "lock.sqlite", ".checkpoint-"


@contextlib.contextmanager
def only_training(folder: Path) -> Iterator[None]:
    """Hold a training's folder; the lock ends with the process, whatever ends it.

    Raises:
        FineTuneError: another training holds it, or it can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = sqlite3.connect(folder / _LOCK, timeout=0.0, isolation_level=None)
    except (OSError, sqlite3.Error) as error:
        raise FineTuneError(f"Cannot train in {folder}: {error}; expected a folder that can be written.") from error
    try:
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.Error as error:
        lock.close()
        raise FineTuneError(
            f"Cannot train in {folder}: another training is at work there. Wait for it, or choose another name."
        ) from error
    try:
        for left in folder.glob(f"{_DRAFT}*"):  # of a training that was killed while it wrote
            with contextlib.suppress(OSError):
                left.unlink()
        yield
    finally:
        lock.close()


def begin_training(folder: Path, anew: bool, among: Several) -> None:
    """Find out that nobody else trains in a folder, and have it forget what was stopped there if that is asked for.

    The training itself holds the folder again, once the model is loaded. Of several processes the first does it; the
    others wait, lest they go on from what is being forgotten.

    Raises:
        FineTuneError: another training is at work there, or it can't be written.
    """
    if among.first:
        with only_training(folder):
            if anew:
                forget_checkpoint(folder)
    among.told(None)


def write_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write where a training stands.

    Raises:
        FineTuneError: it can't be written; the one before is untouched.
    """
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(prefix=_DRAFT, dir=folder)
        with os.fdopen(handle, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, folder / _FILE)
    # A full disk ends torch's writer with a RuntimeError.
    except (OSError, RuntimeError) as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        safe = (folder / _FILE).is_file()
        why = "the disk is full, or fails" if "enforce fail" in str(error) else error  # how that writer puts it
        before = "The last checkpoint is safe; make" if safe else "There was no checkpoint before it: make"
        raise FineTuneError(
            f"Cannot keep where the training stands in {folder}: {why}. {before} room and start again with the same "
            f"name{' to go on from it' if safe else ''}."
        ) from error


def forget_checkpoint(folder: Path) -> None:
    """Have the next training in this folder begin anew, from its first stage.

    Raises:
        FineTuneError: it can't be deleted.
    """
    try:
        for file in (folder / _FILE, *folder.glob(f"{STAGE}*/{_FILE}")):
            file.unlink(missing_ok=True)
    except OSError as error:
        raise FineTuneError(f"Cannot begin anew in {folder}: {error}. Choose another name.") from error


def has_checkpoint(folder: Path) -> bool:
    """Whether a training in this folder has kept where it stands, in whichever stage."""
    return (folder / _FILE).is_file() or any(folder.glob(f"{STAGE}*/{_FILE}"))


def read_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Return where a training stood, None where there is none.

    Raises:
        FineTuneError: the file is damaged or no checkpoint. Nothing in it is run.
    """
    file = folder / _FILE
    if not file.is_file():
        return None
    try:
        state = unpickled(file, "a training's checkpoint")
    except FileFormatError as error:
        raise FineTuneError(
            f"Cannot go on from {file}: it is damaged or no checkpoint. Delete it, or choose another name."
        ) from error
    if not isinstance(state, dict) or not {"step", "settings", "parameters", "optimizer"} <= state.keys():
        raise FineTuneError(f"Cannot go on from {file}: it is no checkpoint of a training. Choose another name.")
    return state


def was_stopped(folder: Path) -> bool:
    """Whether a training in this folder hasn't come to its end, in whichever stage it was.

    Raises:
        FineTuneError: as `read_checkpoint`.
    """
    own = read_checkpoint(folder)
    found = [one for one in (own, *map(read_checkpoint, folder.glob(f"{STAGE}*"))) if one is not None]
    # Between two stages the first has ended, and the last has left nothing yet.
    return any(not one.get("ended") for one in found) or (own is None and bool(found))


def checkpoint_of(folder: Path, identity: dict[str, Any], state: Collection[str]) -> dict[str, Any] | None:
    """Return where a training stood; None where there is none, or another one that came to its end.

    Args:
        identity: The settings, the model and the pairs by which it is known again.
        state: Names of all that it goes on from.

    Raises:
        FineTuneError: another training was stopped there, or one of another version.
    """
    saved = read_checkpoint(folder)
    if saved is None:
        return None
    settings, whole = saved["settings"], saved.keys() >= set(state)
    if settings == identity and whole:
        return saved
    if saved.get("ended"):
        return None
    if not whole or not isinstance(settings, dict) or settings.keys() != identity.keys():
        raise of_another_version(folder)
    raise FineTuneError(
        f"Cannot go on with the training in {folder}: it was begun with {_otherwise(settings, identity)}, and stopped. "
        f"Go on with the same, {_OR_ANEW}."
    )


def _otherwise(before: dict[str, Any], now: dict[str, Any]) -> str:
    """What differs, in words; which model and which pairs it was can't be told of their hashes."""
    named = [name for name in now if before[name] != now[name] and name not in ("about", "pairs")]
    found = [f"{name.replace('_', ' ')} {before[name]} (now {now[name]})" for name in named[:4]]
    found += [f"{len(named) - 4} more"] if len(named) > 4 else []
    if before["about"] != now["about"] or before["pairs"] != now["pairs"]:
        found.append("another model or other pairs")
    return ", ".join(found)


def of_another_version(folder: Path) -> FineTuneError:
    """What to say of a checkpoint that this version can't go on from."""
    return FineTuneError(
        f"Cannot go on with the training in {folder}: another version of Palate began it and stopped. End it with "
        f"that version, {_OR_ANEW}."
    )
