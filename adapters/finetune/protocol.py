"""What a training in a process of its own tells, one JSON object a line; both ends read and write it here."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

__all__ = ["Event", "Failed", "Finished", "LeftOut", "Prepared", "Sampled", "Stepped", "read_line", "write_line"]

STOP = "STOP"  # a file of this name in a training's folder asks it to end
STOPPED = 130  # exit code of a training that was asked to end and kept its checkpoint


@dataclass(frozen=True)
class Prepared:
    """Pictures were encoded: `done` of `all`."""

    done: int
    all: int


@dataclass(frozen=True)
class LeftOut:
    """Answers are not trained on, as a taste of the others doubts them; told before the first step.

    Attributes:
        count: How many. of: How many there were, without those that are held back.
        text: The same as a sentence. file: Lists them, most doubted first.
        pairs: Names of the chosen and the rejected picture of the first dozen; with a store they are its ids.
    """

    count: int
    of: int
    text: str
    file: str
    pairs: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Stepped:
    """One step, as `TrainingStep` has it.

    Attributes:
        step: Steps done. steps: In all.
        loss, margin, accuracy: Of this step's pairs; None where it is no number.
        seconds_left: Estimated.
        judgement: Of the held-out comparisons, by name ("accuracy", "log_loss" ...), where they were looked at now.
    """

    step: int
    steps: int
    loss: float | None = None
    margin: float | None = None
    accuracy: float | None = None
    seconds_left: float | None = None
    judgement: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Sampled:
    """Pictures that the model paints after `step` steps, always of the same prompts and seeds; 0 is before."""

    step: int
    files: tuple[str, ...]


@dataclass(frozen=True)
class Finished:
    """The end.

    Attributes:
        file: What was saved. summary: How it was found to be, in one plain sentence.
        better: Whether it does better than nothing on held-out comparisons; None when that is not known.
        steps: Steps that were done. stopped: Why it ended before its last step; "" when it didn't.
    """

    file: str
    summary: str
    better: bool | None
    steps: int
    stopped: str = ""


@dataclass(frozen=True)
class Failed:
    """It can't start or go on; `text` says why, and what to do."""

    text: str


Event = Prepared | LeftOut | Stepped | Sampled | Finished | Failed
_NAMES: dict[str, type[Event]] = {
    "prepared": Prepared,
    "left_out": LeftOut,
    "step": Stepped,
    "sample": Sampled,
    "done": Finished,
    "error": Failed,
}
_BY_TYPE = {kind: name for name, kind in _NAMES.items()}


def write_line(event: Event) -> str:
    """Return an event as a line without its end; NaN and infinity, which JSON doesn't have, become null."""
    return json.dumps({"event": _BY_TYPE[type(event)], **_plain(asdict(event))}, ensure_ascii=False)


def read_line(line: str) -> Event | None:
    """Return a line's event; None for any other line, so that what a library prints in between does no harm."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    if not isinstance(found, dict) or not isinstance(found.get("event"), str) or found["event"] not in _NAMES:
        return None
    kind = _NAMES[found["event"]]
    known = {field.name: found[field.name] for field in fields(kind) if field.name in found}
    if "files" in known:
        known["files"] = tuple(known["files"])
    try:
        return kind(**known)
    except TypeError:  # a line of another version, without what this one needs
        return None


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
