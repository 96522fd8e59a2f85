"""Requests of the tab "Train": what a training would be, begin, stop, how it goes, and what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter, Body, HTTPException
from fastapi.responses import FileResponse

from ...adapters.errors import FineTuneError
from ...adapters.finetune.usual import USUAL_LOSS
from .answers import PlainRoute, person_of
from .rooms import Rooms

__all__ = ["train_routes"]

NUMBERS = {"rank": int, "learning_rate": float, "steps": int, "seed": int}


def train_routes(rooms: Rooms) -> APIRouter:
    """Return the routes."""
    api = APIRouter(prefix="/palate/api/train", route_class=PlainRoute)
    trainings, studio = rooms.trainings, rooms.studio

    @api.get("")
    def state(person: str = "", since: int = 0) -> dict[str, Any]:
        return {"training": trainings.state(person_of({"person": person}, studio.person), since)}

    @api.get("/plan")
    def plan(person: str = "", loss: str = USUAL_LOSS, drop_doubted: bool = True) -> dict[str, Any]:
        return trainings.plan(person_of({"person": person}, studio.person), loss, drop_doubted)

    @api.post("")
    def start(body: dict[str, Any] = Body(...)) -> dict[str, Any]:  # noqa: B008
        person, loss = person_of(body, studio.person), str(body.get("loss") or USUAL_LOSS)
        return {"training": trainings.start(person, loss, _settings(body), bool(body.get("anew")))}

    @api.post("/stop")
    def stop() -> dict[str, Any]:
        trainings.stop()
        return {}

    @api.get("/samples/{name}/{step}/{number}")
    def sample(name: str, step: int, number: int) -> FileResponse:
        return _file(trainings.sample(name, step, number))

    @api.get("/file/{name}")
    def file(name: str) -> FileResponse:
        return _file(trainings.file(name))

    return api


def _settings(body: dict[str, Any]) -> dict[str, int | float | str]:
    """The numbers that were typed, where an empty field is chosen, and what was ticked.

    Raises:
        FineTuneError: one is no number.
    """
    found: dict[str, int | float | str] = {"drop_doubted": False} if body.get("drop_doubted") is False else {}
    if body.get("frozen"):
        found["frozen"] = str(body["frozen"])
    for name, kind in NUMBERS.items():
        text = str(body.get(name) if body.get(name) is not None else "").strip()
        if text:
            try:
                found[name] = kind(text)
            except ValueError as error:
                words = name.replace("_", " ")
                raise FineTuneError(f"Cannot train: {words} is {text[:40]!r}; expected a number.") from error
    return found


def _file(path: Path | None) -> FileResponse:
    if path is None:
        raise HTTPException(404, "no such file")
    kind = "image/png" if path.suffix == ".png" else "application/octet-stream"
    return FileResponse(path, media_type=kind, filename=None if path.suffix == ".png" else path.name)
