"""Who may call the routes: ComfyUI's own page, and programs on this machine or network; no other site's page.

ComfyUI itself refuses such pages while it listens on this machine only, unless `--enable-cors-header` is given. These
routes refuse them always. A browser says where a request comes from, and a page can't change what it says:
`Sec-Fetch-Site` where the address is https or this machine, `Origin` with every POST. Where neither is sent, as with a
picture on an old browser, the answer's `Cross-Origin-Resource-Policy` keeps it from the page. And a page can't send
JSON to another site without asking first.
"""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from aiohttp import web

__all__ = ["Refused", "read_json", "refuse_other_sites", "text"]

LONGEST = 20_000  # bytes of a request; the longest that the browser sends, 200 ids, has 8,000


class Refused(Exception):  # noqa: N818 - a decision, not a failure
    """The request is not done; its text goes back with this status."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.status = status


def refuse_other_sites(headers: Mapping[str, str], reading: bool = False) -> None:
    """Let through what ComfyUI's own page or a program sent.

    Args:
        headers: Of the request.
        reading: It changes nothing: then an address that was typed by hand is fine, too.

    Raises:
        Refused: another site's page sent it, be it another port of this machine.
    """
    site = headers.get("Sec-Fetch-Site")
    if site is not None:
        if site == "same-origin" or (reading and site == "none"):
            return
    else:
        origin = headers.get("Origin")
        if origin is None or _host(origin) in {headers.get("Host", "").lower(), headers.get("X-Forwarded-Host")}:
            return
    raise Refused("Cannot do that for another site's page: only ComfyUI's own page may ask.", 403)


async def read_json(request: web.Request) -> dict[str, Any]:
    """Return the object that was sent.

    Raises:
        Refused: it is no JSON object, or too long.
    """
    if request.content_type != "application/json":
        raise Refused("The request must be JSON.")
    raw = b""
    async for part in request.content.iter_chunked(8192):
        raw += part
        if len(raw) > LONGEST:
            raise Refused(f"The request is longer than {LONGEST} bytes.")
    try:
        body = json.loads(raw, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise Refused("The request is not JSON.") from None
    if not isinstance(body, dict):
        raise Refused("The request must be an object.")
    return body


def text(body: dict[str, Any], name: str) -> str:
    """Return a field that must be text.

    Raises:
        Refused: it is missing, empty, or something else.
    """
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise Refused(f"{name} is missing or not text.")
    return value


def _host(origin: str) -> str:
    try:
        return urllib.parse.urlsplit(origin).netloc.lower()
    except ValueError:
        return origin


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number in JSON")
