"""Requests of the tab "Generate": paint, how far it is, prefer, and the gallery."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Body, HTTPException
from fastapi.responses import FileResponse, Response

from ...adapters.comparisons.images import read_image
from ...adapters.errors import ImageError
from ..whose import BEST, PROMPT_STRENGTH, USER_STRENGTH, WORDS
from .answers import PlainRoute, person_of
from .downloads import found
from .png_text import parameters, png_with_settings
from .rooms import Rooms
from .shot import Shot
from .users import DENOISER
from .wish import LONGEST_PROMPT, Wish, parts_of

__all__ = ["generate_routes"]

FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}  # an id's picture never changes
PAGE = 48  # pictures of the gallery at once


def generate_routes(rooms: Rooms) -> APIRouter:
    """Return the routes."""
    api = APIRouter(prefix="/palate/api", route_class=PlainRoute)
    _painting(api, rooms)
    _jobs(api, rooms)
    _preferring(api, rooms)
    _gallery(api, rooms)
    _pictures(api, rooms)
    return api


def _painting(api: APIRouter, rooms: Rooms) -> None:
    @api.get("/model")
    def model() -> dict[str, Any]:
        facts = rooms.easel.facts()
        strength = USER_STRENGTH if DENOISER in facts.methods else PROMPT_STRENGTH
        return {
            "model": facts.name,
            "methods": list(facts.methods),
            "steps": facts.steps,
            "guidance": facts.guidance,
            "size": [facts.width, facts.height],
            "everything": {"words": WORDS, "best": BEST, "strength": strength},
        }

    @api.post("/paint")
    def paint(body: dict[str, Any] = Body(...)) -> dict[str, Any]:  # noqa: B008
        person, wish = person_of(body, rooms.studio.person), Wish.read(body)
        owner = f"paint {str(body.get('page', ''))[:64]}"
        return rooms.jobs.start(owner, lambda job: rooms.easel.paint(wish, person, job)).state()

    @api.post("/words")
    def words(body: dict[str, Any] = Body(...)) -> dict[str, Any]:  # noqa: B008
        return rooms.words.offer(str(body.get("prompt", ""))[:LONGEST_PROMPT], parts_of(body))


def _jobs(api: APIRouter, rooms: Rooms) -> None:
    @api.get("/jobs/{job_id}")
    def job(job_id: str) -> dict[str, Any]:
        one = rooms.jobs.get(job_id)
        return {"state": "unknown"} if one is None else one.state()

    @api.post("/jobs/{job_id}/stop")
    def stop(job_id: str) -> dict[str, Any]:
        one = rooms.jobs.get(job_id)
        if one is not None:
            one.stop()
        return {}


def _preferring(api: APIRouter, rooms: Rooms) -> None:
    @api.post("/prefer")
    def prefer(body: dict[str, Any] = Body(...)) -> dict[str, Any]:  # noqa: B008
        person = person_of(body, rooms.studio.person)
        answer = rooms.choices.prefer(person, str(body.get("chosen")), str(body.get("rejected")))
        return {"comparison": answer.id, "answers": rooms.studio.store.count(person)}

    @api.post("/prefer/undo")
    def undo(body: dict[str, Any] = Body(...)) -> dict[str, Any]:  # noqa: B008
        person, given = person_of(body, rooms.studio.person), body.get("comparison")
        undone = isinstance(given, int) and rooms.choices.take_back(person, given)
        return {"undone": undone, "answers": rooms.studio.store.count(person)}


def _gallery(api: APIRouter, rooms: Rooms) -> None:
    gallery = rooms.gallery

    @api.get("/gallery")
    def shots(before: float | None = None, between: bool = False, person: str = "") -> dict[str, Any]:
        some = gallery.shots(between, before, PAGE + 1, person)
        return {
            "shots": [_shown(shot) for shot in some[:PAGE]],
            "more": len(some) > PAGE,
            "people": gallery.people(),
        }

    @api.post("/gallery/{shot_id}/star")
    def star(shot_id: str, body: dict[str, Any] = Body(...)) -> dict[str, Any]:  # noqa: B008
        return _shown(gallery.star(shot_id, bool(body.get("starred"))))

    @api.post("/gallery/{shot_id}/delete")
    def delete(shot_id: str) -> dict[str, Any]:
        gallery.delete(shot_id)
        return {}

    @api.post("/gallery/{shot_id}/restore")
    def restore(shot_id: str) -> dict[str, Any]:
        return _shown(gallery.restore(shot_id))


def _pictures(api: APIRouter, rooms: Rooms) -> None:
    gallery = rooms.gallery

    # Before the next: its name would take the ending for a part of the id.
    @api.get("/gallery/{shot_id}.png")
    def picture(shot_id: str) -> FileResponse:
        path = found(lambda: gallery.path(gallery.get(shot_id)), "picture")
        return FileResponse(path, media_type="image/png", headers=FOREVER)

    @api.get("/gallery/{shot_id}")
    def entry(shot_id: str) -> dict[str, Any]:
        return _shown(gallery.get(shot_id))

    @api.get("/gallery/{shot_id}/download")
    def download(shot_id: str) -> Response:
        shot = found(lambda: gallery.get(shot_id), "picture")
        path = found(lambda: gallery.path(shot), "picture")
        try:
            image = read_image(path)
        except ImageError as error:  # an error with status 200, as elsewhere, a browser would save as the picture
            raise HTTPException(500, str(error)) from error
        data = png_with_settings(image, shot.used)
        name = f"palate-{shot.used.seed}-{shot.used.strength:g}.png"
        return Response(data, media_type="image/png", headers={"Content-Disposition": f'attachment; filename="{name}"'})


def _shown(shot: Shot) -> dict[str, Any]:
    used = shot.used
    return {
        "id": shot.id,
        "person": used.person,
        "created": shot.created,
        "seconds": shot.seconds,
        "starred": shot.starred,
        "prompt": used.worded,
        "negative": used.negative,
        "seed": str(used.seed),
        "strength": used.strength,
        "tastes": [{"source": source, "weight": weight} for source, weight in used.tastes],
        "method": used.method,
        "objective": used.objective,
        "limit": used.limit,
        "turns": used.turns,
        "model": used.model,
        "steps": used.steps,
        "guidance": used.guidance,
        "size": [used.width, used.height],
        "degrees": used.degrees,
        "parameters": parameters(used),
    }
