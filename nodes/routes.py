"""Routes for the browser: answer an offered pair, take an answer back, ask what is open, get a picture.

ComfyUI itself refuses requests that another site's page sends to a local server. Beyond that every body must be JSON,
which such a page can't send without asking first, and is small; offers are found by ids that can't be guessed, and
pictures by the hash of their pixels. No path ever comes from a request.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any

from aiohttp import web
from server import PromptServer

from ..adapters.errors import PreferenceError
from . import pairs
from .sockets import open_store

_LONGEST = 20_000  # bytes of a request
_MOST_IDS = 200
_IMAGE_ID = re.compile(r"[0-9a-f]{64}")
_routes = PromptServer.instance.routes


class _RefusedError(Exception):
    """The request makes no sense; its text goes back with status 400."""


@_routes.post("/palate/answer")
async def answer(request: web.Request) -> web.Response:
    """{offer, outcome, seconds?} -> state of the pair's person, with that pair."""
    return await _reply(request, _answer, tell=True)


@_routes.post("/palate/undo")
async def undo(request: web.Request) -> web.Response:
    """{person} -> takes back this person's latest answer; state with `undone`: what it was, or null."""
    return await _reply(request, _undo, tell=True)


@_routes.post("/palate/pairs")
async def open_pairs(request: web.Request) -> web.Response:
    """{person, offers?: [id]} -> those pairs, or the undecided ones, with the number of answers."""
    return await _reply(request, _pairs)


@_routes.get("/palate/image/{image}")
async def image(request: web.Request) -> web.StreamResponse:
    """A picture of the store."""
    image_id = request.match_info["image"]
    try:
        known = _IMAGE_ID.fullmatch(image_id) and open_store().has_image(image_id)
        if not known:
            return web.Response(status=404)
        response = web.FileResponse(open_store().image_path(image_id))
    except PreferenceError:
        return web.Response(status=404)
    response.headers["Cache-Control"] = "private, max-age=31536000, immutable"  # a hash never changes its picture
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    return response


def _answer(body: dict[str, Any]) -> dict[str, Any]:
    store = open_store()
    comparison = store.answer(_text(body, "offer"), _text(body, "outcome"), body.get("seconds"))
    return pairs.state(store, comparison.person, {_text(body, "offer")})


def _undo(body: dict[str, Any]) -> dict[str, Any]:
    store, person = open_store(), _text(body, "person")
    undone = store.undo(person)
    told = None if undone is None else {"left": undone.left, "right": undone.right, "outcome": undone.outcome}
    return pairs.state(store, person, set()) | {"undone": told}


def _pairs(body: dict[str, Any]) -> dict[str, Any]:
    offers = body.get("offers")
    if offers is not None and (
        not isinstance(offers, list) or len(offers) > _MOST_IDS or not all(isinstance(o, str) for o in offers)
    ):
        raise _RefusedError(f"offers must be a list of at most {_MOST_IDS} ids")
    return pairs.state(open_store(), _text(body, "person"), None if offers is None else set(offers))


async def _reply(
    request: web.Request, work: Callable[[dict[str, Any]], dict[str, Any]], tell: bool = False
) -> web.Response:
    """Read the body, do the work in a thread (it waits for the disk), and turn what goes wrong into one sentence.

    Args:
        request: With a JSON object.
        work: What to do with the object.
        tell: Whether all open browser tabs hear of it.
    """
    try:
        body = await _body(request)
        told = await asyncio.get_running_loop().run_in_executor(None, work, body)
    except (_RefusedError, PreferenceError) as error:
        return web.json_response({"error": str(error)}, status=400)
    if tell:
        PromptServer.instance.send_sync("palate.changed", told)
    return web.json_response(told)


async def _body(request: web.Request) -> dict[str, Any]:
    if request.content_type != "application/json":
        raise _RefusedError("the request must be JSON")
    raw = b""
    async for part in request.content.iter_chunked(8192):
        raw += part
        if len(raw) > _LONGEST:
            raise _RefusedError(f"the request is longer than {_LONGEST} bytes")
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise _RefusedError("the request is not JSON") from None
    if not isinstance(body, dict):
        raise _RefusedError("the request must be an object")
    return body


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise _RefusedError(f"{name} is missing or not text")
    return value
