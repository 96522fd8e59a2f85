"""What is kept of a training, so that a page that comes back finds it: a small file in the training's folder."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any

from ...adapters.errors import FineTuneError
from ...adapters.finetune.protocol import Stepped
from .jobs import STOPPED, WORKING

__all__ = ["KEPT", "begun", "by_time", "keep", "read", "require_same", "stepped"]

KEPT = "panel.json"  # in a training's folder
POINTS = 400  # of each curve; from twice as many on every other one is dropped


def keep(folder: Path, text: str) -> None:
    """Write it in one step; a folder that can't be written only means that a page that comes back finds nothing."""
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f".{KEPT}.part"
        part.write_text(text, encoding="utf-8")
        part.replace(folder / KEPT)


def by_time(folder: Path) -> list[Path]:
    """Return the files of all trainings, newest first."""
    return sorted(folder.glob(f"*/{KEPT}"), key=lambda file: file.stat().st_mtime, reverse=True)


def read(file: Path) -> dict[str, Any]:
    """What is kept of a training, {} where nothing sound is; one that was at work when its panel ended is stopped."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict) or not begun("", "", {}, {}).keys() <= found.keys():
        return {}
    return found | ({"state": STOPPED, "text": "", "seconds_left": None} if found["state"] == WORKING else {})


def begun(person: str, loss: str, given: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """A training that begins, with the curves of the one that it goes on with."""
    kept = {name: before.get(name, []) for name in ("points", "looks", "samples")}
    return {
        "person": person,
        "loss": loss,
        "name": "",
        "settings": before.get("settings", given),
        "model": "",
        "revision": 0,
        "sure": None,
        "state": WORKING,
        "text": "Starting…",
        "share": 0.0,
        "step": 0,
        "steps": 0,
        "seconds_left": None,
        "error": "",
        "result": None,
        "began": time.time(),
        "ended": None,
        "first": None,
        "per_step": before.get("per_step"),
        **kept,
    }


def require_same(given: dict[str, Any], before: dict[str, Any] | None) -> None:
    """Refuse to go on with other settings than a training was begun with, rather than without a word with those.

    Raises:
        FineTuneError: one that was typed differs; what wasn't typed is as it was.
    """
    known = {} if before is None else before["settings"]
    other = [name for name in given if before is not None and given[name] != known.get(name)]
    if before is None or not other:
        return
    found, was = (" and ".join(_said(name, settings) for name in other) for settings in (given, known))
    raise FineTuneError(
        f"Cannot go on with {found}: the training that was stopped after step {before['step']} was begun with {was}. "
        "Empty the field, or set the box as it was, to go on; or begin anew."
    )


def _said(name: str, settings: dict[str, Any]) -> str:
    """One setting in words: what was ticked, or typed."""
    if name == "frozen":
        return "the model held in bytes" if settings.get(name) else "the model as it is"
    if name == "drop_doubted":
        return "all answers" if settings.get(name) is False else "doubted answers left out"
    return f"{name.replace('_', ' ')} {settings.get(name, 'as it chose')}"


def stepped(event: Stepped, now: dict[str, Any]) -> None:
    """Take one step into what is kept."""
    now["points"] = [point for point in now["points"] if point[0] < event.step]
    now["points"].append([event.step, event.loss, event.margin, event.accuracy])
    if len(now["points"]) > 2 * POINTS:
        now["points"] = now["points"][::2]
    if event.judgement is not None:
        looks = [look for look in now["looks"] if look["step"] != event.step]
        now["looks"] = [*looks, {**event.judgement, "step": event.step}]
    now.update(step=event.step, steps=event.steps, share=event.step / max(event.steps, 1), text="")
    now["seconds_left"] = event.seconds_left
    now["first"] = now["first"] or [time.time(), event.step]
    began, first = now["first"]
    if event.step > first:
        now["per_step"] = (time.time() - began) / (event.step - first)
