"""Routes for the browser: answer a question, take an answer back, ask what is open, get a picture; and the sidebar's.

They are closed (`closed.py`): no other site's page gets anything, every body is JSON, small, and of the types that are
written here. Questions are found by ids that can't be guessed, and pictures by the hash of their pixels, or among what
ComfyUI's own history names. No path ever comes from a request. What goes wrong is one sentence, {"error": ...}: 4xx
when the request makes no sense, 500 when the store can't be used.
"""

from __future__ import annotations

import asyncio
import os
import re
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import folder_paths
from aiohttp import web
from server import PromptServer

from ..adapters.errors import PreferenceError, StoreError
from ..adapters.files import bring_taste, describe
from ..adapters.places import safe_name
from ..adapters.taste import look_again
from . import made, pairs, sidebar, telling
from .asking import ask
from .closed import Refused, admit, read_file, read_json, text
from .questions import MOST
from .sockets import open_store, tastes_folder
from .waiting import WAITS

_MOST_IDS = 200
_LARGEST = 4 << 20  # bytes of a taste that is brought in; one has 200 KB
_MOST_TIERS = 16
_RUNS = 100  # of ComfyUI's history that are looked through
_IMAGE_ID = re.compile(r"[0-9a-f]{64}")
_LEARNED = sidebar.Learned()
_THINKING = threading.Lock()  # of a question at a time: two tabs that ask at once get one and the same
_routes = PromptServer.instance.routes


@_routes.post("/palate/answer")
async def answer(request: web.Request) -> web.Response:
    """{offer, outcome, seconds?, much?}, or {offer, tiers, seconds?, much?} for a batch -> state with that question.

    With `again` the click comes late, perhaps not for the first time: what was answered since stays.
    """
    return await _reply(request, _answer, tell=True)


@_routes.post("/palate/undo")
async def undo(request: web.Request) -> web.Response:
    """{person} -> takes back this person's latest answer; state with it and `undone`: what it was, or null."""
    return await _reply(request, _undo, tell=True)


@_routes.post("/palate/withdraw")
async def withdraw(request: web.Request) -> web.Response:
    """{offer} -> forgets an undecided question; state with `withdrawn`: its id, or null when there was none."""
    return await _reply(request, _withdraw, tell=True)


@_routes.post("/palate/pairs")
async def open_pairs(request: web.Request) -> web.Response:
    """{person, offers?: [id], before?: id} -> state with those questions, or a page of the undecided ones."""
    return await _reply(request, _pairs)


@_routes.post("/palate/order")
async def order(request: web.Request) -> web.Response:
    """{person, offers: [id]} -> {person, order}: the undecided ones of these, in the order to ask them in."""
    return await _reply(request, _order)


@_routes.post("/palate/more")
async def more(request: web.Request) -> web.Response:
    """{person} -> state with one more question about pictures of theirs; 400 where there is none to ask."""
    return await _reply(request, _more)


@_routes.post("/palate/compare")
async def compare(request: web.Request) -> web.Response:
    """{person, images: [{filename, subfolder, type}]} of what runs made -> state with a question about them."""
    return await _reply(request, _compare, tell=True)


@_routes.post("/palate/people")
async def people(request: web.Request) -> web.Response:
    """{} -> {people: [{person, answers, waiting}], waits}, who was here last first."""
    return await _reply(request, _people)


@_routes.post("/palate/state")
async def learned(request: web.Request) -> web.Response:
    """{person} -> what is known of their taste without loading a model; see `sidebar.Learned`."""
    return await _reply(request, lambda body: _LEARNED.of(open_store(), text(body, "person")))


@_routes.post("/palate/slips")
async def slips(request: web.Request) -> web.Response:
    """{person} -> {person, slips: [{id, images, left, right, prompt, outcome}]}: answers that look like mistakes."""
    return await _reply(request, _slips)


@_routes.post("/palate/look")
async def look(request: web.Request) -> web.Response:
    """{person, id, left?, before, outcome} -> keeps such an answer or changes it; state, with its question, if any."""
    return await _reply(request, _look, tell=True)


@_routes.post("/palate/export")
async def export(request: web.Request) -> web.Response:
    """{person, format: "taste" | "answers"} -> {file, subfolder}: a name in ComfyUI's output folder."""
    output = Path(folder_paths.get_output_directory())
    return await _reply(
        request, lambda body: sidebar.export(open_store(), text(body, "person"), text(body, "format"), output)
    )


@_routes.post("/palate/bring")
async def bring(request: web.Request) -> web.Response:
    """A taste file, or a picture that carries one, and ?name= -> {file, person}: its name in the tastes folder."""
    name = request.query.get("name", "")[:200]
    return await _reply(request, lambda data: _bring(name, data), read=lambda one: read_file(one, _LARGEST))


@_routes.get("/palate/image/{image}")
async def image(request: web.Request) -> web.StreamResponse:
    """A picture of the store."""
    image_id = request.match_info["image"]
    try:
        admit(request, reading=True)
        if not _IMAGE_ID.fullmatch(image_id):
            return web.Response(status=404)
        response = web.FileResponse(open_store().image_path(image_id))
    except Refused as refused:
        return web.Response(status=refused.status)
    except PreferenceError:
        return web.Response(status=404)
    response.headers["Cache-Control"] = "private, max-age=31536000, immutable"  # a hash never changes its picture
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def _answer(body: dict[str, Any]) -> dict[str, Any]:
    store, offer, seconds = open_store(), text(body, "offer"), body.get("seconds")
    asked = store.find_offer(offer)
    ranked = body.get("tiers") is not None
    outcome = (body.get("outcome") or "ranked") if ranked else text(body, "outcome")
    tiers = _tiers(body["tiers"]) if ranked else ()
    much = body["much"] if isinstance(body.get("much"), bool) and (ranked or outcome in ("left", "right")) else None
    many = asked is not None and asked.others and outcome in ("both_bad", "skip")
    if asked is not None and body.get("again") is True:
        store.answer_open(offer, outcome, tiers, seconds, much)
        person = asked.person
    elif ranked or many:
        person = store.rank(offer, tiers, outcome, seconds, much).person
    else:
        person = store.answer(offer, outcome, seconds, much).person
    return pairs.state(store, person, [offer], WAITS.of(person))


def _undo(body: dict[str, Any]) -> dict[str, Any]:
    store, person = open_store(), text(body, "person")
    undone, asked = store.undo_offered(person) or (None, None)  # one step: another tab may answer at this moment
    told = None if undone is None else {"left": undone.left, "right": undone.right, "outcome": undone.outcome}
    return pairs.state(store, person, [asked.id] if asked else [], WAITS.of(person)) | {"undone": told}


def _bring(name: str, data: bytes) -> dict[str, Any]:
    # Not under a name that saving a taste of somebody here writes to: what was brought in would be replaced.
    here = {safe_name(one) for one in ("me", *open_store().people()) if one.strip()}
    file = bring_taste(name, data, tastes_folder(), here)
    return {"file": file.name, "person": describe(file).person}


def _withdraw(body: dict[str, Any]) -> dict[str, Any]:
    store, offer = open_store(), text(body, "offer")
    asked = store.find_offer(offer)
    if asked is None:
        raise Refused("There is no such question any more; it was withdrawn or deleted.", 404)
    gone = store.withdraw(offer)
    return pairs.state(store, asked.person, [], WAITS.of(asked.person)) | {"withdrawn": offer if gone else None}


def _people(body: dict[str, Any]) -> dict[str, Any]:
    return sidebar.people(open_store()) | {"waits": [wait.told() for wait in WAITS.all()]}


def _pairs(body: dict[str, Any]) -> dict[str, Any]:
    offers, before, person = body.get("offers"), body.get("before"), text(body, "person")
    if offers is not None and not _ids(offers, _MOST_IDS):
        raise Refused(f"offers must be a list of at most {_MOST_IDS} ids.")
    if before is not None and not isinstance(before, str):
        raise Refused("before must be an id.")
    return pairs.state(open_store(), person, offers, WAITS.of(person), before)


def _order(body: dict[str, Any]) -> dict[str, Any]:
    offers, person, store = body.get("offers"), text(body, "person"), open_store()
    if not _ids(offers, _MOST_IDS):
        raise Refused(f"offers must be a list of at most {_MOST_IDS} ids.")
    asked = [one for one, answer in store.asked.answers(offers) if answer is None and one.person == person]
    asked.sort(key=lambda one: -(one.created or 0.0))
    return {"person": person, "order": telling.order(store, person, _LEARNED.taste(store, person), asked)}


def _more(body: dict[str, Any]) -> dict[str, Any]:
    person, store = text(body, "person"), open_store()
    taste = _LEARNED.taste(store, person)
    with _THINKING:
        asked = telling.another(store, person, taste)
    return pairs.state(store, person, [asked.id], WAITS.of(person))


def _compare(body: dict[str, Any]) -> dict[str, Any]:
    person, images = text(body, "person"), body.get("images")
    if not isinstance(images, list) or not all(isinstance(one, dict) for one in images):
        raise Refused("images must be a list of ComfyUI's images.")
    shown = [(text(one, "filename"), str(one.get("subfolder") or ""), text(one, "type")) for one in images]
    count, told = len(set(shown)), body.get("count")
    if count > MOST:
        count = told if isinstance(told, int) and told > count else count  # the browser sends the first of very many
        raise Refused(f"Cannot compare {count} pictures at one look; expected 2 to {MOST}. Select fewer.")
    history = PromptServer.instance.prompt_queue.get_history(max_items=_RUNS)
    pictures, prompt = made.together(history, shown, lambda picture: _file(picture).is_file())
    if len(pictures) == 2:
        pictures = made.sides(pictures, person)
    store, files = open_store(), [_file(picture) for picture in pictures]
    asked = ask(store, person, prompt, files, [tuple(range(len(files)))], waiting=False)
    return pairs.state(store, person, [asked[0].offer], WAITS.of(person))


def _file(picture: made.Picture) -> Path:
    """Where ComfyUI put a picture that its history knows."""
    name, subfolder, kind = picture
    folder = Path(os.path.abspath(folder_paths.get_directory_by_type(kind)))
    file = Path(os.path.abspath(folder / subfolder / name))  # not resolved: a folder in it may lead to another disk
    if not file.is_relative_to(folder):
        raise Refused("An image lies outside of ComfyUI's folders.")
    return file


def _slips(body: dict[str, Any]) -> dict[str, Any]:
    store, person = open_store(), text(body, "person")
    return {"person": person, "slips": [pairs.slip(one) for one in _LEARNED.slips(store, person)]}


def _look(body: dict[str, Any]) -> dict[str, Any]:
    store, person, number, left = open_store(), text(body, "person"), body.get("id"), body.get("left")
    if not isinstance(number, int) or isinstance(number, bool):
        raise Refused("id must be a number.")
    with _THINKING:  # two clicks come one after the other
        look_again(store, person, number, text(body, "before"), text(body, "outcome"), left)
    asked = store.find_offer(comparison=number)
    return pairs.state(store, person, [asked.id] if asked else [], WAITS.of(person))


def _tiers(tiers: Any) -> list[list[str]]:
    if isinstance(tiers, list) and len(tiers) <= _MOST_TIERS and all(_ids(tier, _MOST_TIERS) for tier in tiers):
        return tiers
    raise Refused("tiers must be a list of lists of ids.")


def _ids(value: Any, most: int) -> bool:
    return isinstance(value, list) and len(value) <= most and all(isinstance(one, str) for one in value)


async def _reply(
    request: web.Request,
    work: Callable[[Any], dict[str, Any]],
    tell: bool = False,
    read: Callable[[web.Request], Awaitable[Any]] = read_json,
) -> web.Response:
    """Read the body, do the work in a thread (it waits for the disk), and turn what goes wrong into one sentence.

    Args:
        request: With a JSON object, or what `read` takes.
        work: What to do with it.
        tell: Whether all open browser tabs hear of it.
        read: Reads the body.
    """
    try:
        admit(request)
        body = await read(request)
        told = await asyncio.get_running_loop().run_in_executor(None, work, body)
    except Refused as refused:
        return web.json_response({"error": str(refused)}, status=refused.status)
    except PreferenceError as error:
        return web.json_response({"error": str(error)}, status=500 if isinstance(error, StoreError) else 400)
    except OSError as error:  # of a file, not the store
        return web.json_response({"error": f"Cannot write the file: {error.strerror or error}."}, status=500)
    if tell:
        PromptServer.instance.send_sync("palate.changed", told)
    return web.json_response(told)
