"""Requests of the tab "Share": tastes in and out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Body, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from ...adapters.errors import CancelledError, FileFormatError, PreferenceError
from ...adapters.files import MOST_BYTES, TasteFile, UserFile, is_user
from .answers import PlainRoute, person_of
from .blends import FILE, USER
from .downloads import found, shelf_routes
from .jobs import Job
from .rooms import Rooms
from .shelf import Entry
from .users import fits_ppd, own_user

__all__ = ["share_routes"]


def share_routes(rooms: Rooms) -> APIRouter:
    """Return the routes."""
    api = APIRouter(prefix="/palate/api", route_class=PlainRoute)
    files, studio = rooms.files, rooms.studio

    @api.get("/tastes")
    def tastes() -> dict[str, Any]:
        people = [{"source": f"person:{name}", "name": name} for name in studio.store.people()]
        return {"people": people, "files": _all_files(rooms)}

    @api.get("/own")
    def own(person: str = "") -> dict[str, Any]:
        who = person_of({"person": person}, studio.person)
        if not studio.store.count(who):
            return {"person": who, "answers": 0}
        taste = studio.taste(who)
        return {"person": who, "answers": taste.answers, "encoder": taste.encoder_name, "numbers": taste.width}

    @api.post("/tastes")
    async def add(request: Request, name: str = "") -> dict[str, Any]:
        data = bytearray()
        async for part in request.stream():
            data += part
            if len(data) > MOST_BYTES:
                raise FileFormatError(f"Cannot read {name[:120]!r}: it is too large; expected a taste, below 1 MB.")
        return await run_in_threadpool(_added, rooms, name, bytes(data))

    @api.post("/tastes/save")
    def save(body: dict[str, Any] = Body(...)) -> dict[str, Any]:  # noqa: B008
        person = person_of(body, studio.person)
        return _shown(rooms, files.save(person, bool(body.get("named", True))))

    @api.get("/tastes/{name}/picture")
    def picture(name: str) -> Response:
        return Response(found(lambda: files.picture(name), "taste"), media_type="image/png")

    shelf_routes(api, "tastes", files, "taste", lambda entry: _shown(rooms, entry))
    _users(api, rooms)
    _embeddings(api, rooms)
    return api


def _users(api: APIRouter, rooms: Rooms) -> None:
    @api.post("/users/save")
    def save(body: dict[str, Any] = Body(...)) -> dict[str, Any]:  # noqa: B008
        person, named = person_of(body, rooms.studio.person), bool(body.get("named", True))
        work: Callable[[Job], None] = lambda job: _save_user(rooms, person, named, job)  # noqa: E731
        return rooms.jobs.start(f"user {body.get('tab')}", work).state()

    shelf_routes(api, "users", rooms.users, "user file", lambda entry: _shown_user(rooms, entry))


def _embeddings(api: APIRouter, rooms: Rooms) -> None:
    @api.get("/embeddings")
    def embeddings() -> dict[str, Any]:
        files = rooms.embeddings.files()
        return {"files": [{"file": path.name, "said": f"{path.stat().st_size / 1000:.0f} KB"} for path in files]}

    @api.post("/embeddings")
    def make(body: dict[str, Any] = Body(...)) -> dict[str, Any]:  # noqa: B008
        person, name = person_of(body, rooms.studio.person), str(body.get("name", ""))
        named = bool(body.get("named", True))
        work: Callable[[Job], None] = lambda job: rooms.embeddings.make(person, name, job, named)  # noqa: E731
        return rooms.jobs.start(f"embedding {person}", work).state()

    shelf_routes(api, "embeddings", rooms.embeddings, "embedding", lambda path: {"file": path.name})


def _save_user(rooms: Rooms, person: str, named: bool, job: Job) -> None:
    """Save what the model's PPD makes of a person's answers; the job's `file` is its name."""
    job.tell(0.0, "Loading the model…")
    rooms.studio.painter()
    job.tell(0.5, "Reading your answers…")
    user = own_user(rooms.studio, person)
    if job.cancelled():
        raise CancelledError("Stopped; nothing was kept.")
    job.found.update(_shown_user(rooms, rooms.users.save(user, person, named)))


def _added(rooms: Rooms, name: str, data: bytes) -> dict[str, Any]:
    """Put what was dropped on the shelf that it belongs to."""
    if is_user(data):
        return _shown_user(rooms, rooms.users.add(name, data))
    return _shown(rooms, rooms.files.add(name, data))


def _all_files(rooms: Rooms) -> list[dict[str, Any]]:
    tastes = [_shown(rooms, entry) for entry in rooms.files.entries()]
    return tastes + [_shown_user(rooms, entry) for entry in rooms.users.entries()]


def _shown(rooms: Rooms, entry: Entry[TasteFile]) -> dict[str, Any]:
    said = entry.said
    if said is None:
        return _row("taste", FILE, entry, entry.trouble)
    try:
        trouble = rooms.blends.fits(said.encoder, said.encoder_name, said.person)
    except PreferenceError as error:  # without an encoder nothing can be steered; the file is still worth listing
        trouble = str(error)
    return _row("taste", FILE, entry, trouble, said.answers)


def _shown_user(rooms: Rooms, entry: Entry[UserFile]) -> dict[str, Any]:
    said = entry.said
    if said is None:
        return _row("user", USER, entry, entry.trouble)
    return _row("user", USER, entry, fits_ppd(rooms.studio, said), said.pairs)


def _row(
    kind: str, source: str, entry: Entry[TasteFile] | Entry[UserFile], trouble: str, answers: int = 0
) -> dict[str, Any]:
    """What the list tells of a file; of one that can't be read only why."""
    told = {"source": f"{source}{entry.name}", "kind": kind, "file": entry.name, "trouble": trouble}
    said = entry.said
    if said is None:
        return told | {"fits": False}
    return told | {
        "name": said.person or "somebody",
        "answers": answers,
        "encoder": said.encoder_name,
        "created": said.created,
        "fits": not trouble,
    }
