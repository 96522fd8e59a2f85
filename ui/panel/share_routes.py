"""Requests of the tab "Share": tastes in and out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Body, HTTPException, Request
from fastapi.responses import FileResponse, Response
from starlette.concurrency import run_in_threadpool

from ...adapters.errors import CancelledError, FileFormatError, PreferenceError
from ...adapters.files import MOST_BYTES, TasteFile, UserFile, is_user
from .answers import PlainRoute, person_of
from .blends import FILE, USER
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

    @api.post("/tastes/remove")
    def remove(body: dict[str, Any] = Body(...)) -> dict[str, Any]:  # noqa: B008
        files.remove(str(body.get("file")))
        return {}

    @api.post("/tastes/restore")
    def restore(body: dict[str, Any] = Body(...)) -> dict[str, Any]:  # noqa: B008
        return _shown(rooms, files.restore(str(body.get("file"))))

    @api.get("/tastes/{name}/picture")
    def picture(name: str) -> Response:
        try:
            data = files.picture(name)
        except PreferenceError as error:
            raise HTTPException(404, "no such taste") from error
        return Response(data, media_type="image/png")

    @api.get("/tastes/{name}")
    def download(name: str) -> FileResponse:
        try:
            path = files.path(name)
        except PreferenceError as error:
            raise HTTPException(404, "no such taste") from error
        return FileResponse(path, media_type="application/octet-stream", filename=path.name)

    _users(api, rooms)
    _embeddings(api, rooms)
    return api


def _users(api: APIRouter, rooms: Rooms) -> None:
    @api.post("/users/save")
    def save(body: dict[str, Any] = Body(...)) -> dict[str, Any]:  # noqa: B008
        person, named = person_of(body, rooms.studio.person), bool(body.get("named", True))
        work: Callable[[Job], None] = lambda job: _save_user(rooms, person, named, job)  # noqa: E731
        return rooms.jobs.start(f"user {body.get('tab')}", work).state()

    @api.post("/users/remove")
    def remove(body: dict[str, Any] = Body(...)) -> dict[str, Any]:  # noqa: B008
        rooms.users.remove(str(body.get("file")))
        return {}

    @api.post("/users/restore")
    def restore(body: dict[str, Any] = Body(...)) -> dict[str, Any]:  # noqa: B008
        return _shown_user(rooms, rooms.users.restore(str(body.get("file"))))

    @api.get("/users/{name}")
    def download(name: str) -> FileResponse:
        try:
            path = rooms.users.path(name)
        except PreferenceError as error:
            raise HTTPException(404, "no such user file") from error
        return FileResponse(path, media_type="application/octet-stream", filename=path.name)


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

    @api.post("/embeddings/remove")
    def remove(body: dict[str, Any] = Body(...)) -> dict[str, Any]:  # noqa: B008
        rooms.embeddings.remove(str(body.get("file")))
        return {}

    @api.post("/embeddings/restore")
    def restore(body: dict[str, Any] = Body(...)) -> dict[str, Any]:  # noqa: B008
        return {"file": rooms.embeddings.restore(str(body.get("file"))).name}

    @api.get("/embeddings/{name}")
    def download(name: str) -> FileResponse:
        try:
            path = rooms.embeddings.path(name)
        except PreferenceError as error:
            raise HTTPException(404, "no such embedding") from error
        return FileResponse(path, media_type="application/octet-stream", filename=path.name)


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
    told: dict[str, Any] = {"source": f"{FILE}{entry.name}", "kind": "taste", "file": entry.name}
    said = entry.said
    if said is None:
        return told | {"trouble": entry.trouble, "fits": False}
    try:
        trouble = rooms.blends.fits(said.encoder, said.encoder_name, said.person)
    except PreferenceError as error:  # without an encoder nothing can be steered; the file is still worth listing
        trouble = str(error)
    return told | {
        "name": said.person or "somebody",
        "answers": said.answers,
        "encoder": said.encoder_name,
        "created": said.created,
        "fits": not trouble,
        "trouble": trouble,
    }


def _shown_user(rooms: Rooms, entry: Entry[UserFile]) -> dict[str, Any]:
    told: dict[str, Any] = {"source": f"{USER}{entry.name}", "kind": "user", "file": entry.name}
    said = entry.said
    if said is None:
        return told | {"trouble": entry.trouble, "fits": False}
    trouble = fits_ppd(rooms.studio, said)
    return told | {
        "name": said.person or "somebody",
        "answers": said.pairs,
        "encoder": said.encoder_name,
        "created": said.created,
        "fits": not trouble,
        "trouble": trouble,
    }
