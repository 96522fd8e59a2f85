"""Who may call the routes: ComfyUI's own page, and programs on this machine or network; no other site's page.

ComfyUI itself refuses such pages while it listens on this machine only, unless `--enable-cors-header` is given. These
routes refuse them always. A browser says where a request comes from, and a page can't change what it says:
`Sec-Fetch-Site` where the address is https or this machine, `Origin` with every POST. Where neither is sent, as with a
picture on an old browser, the answer's `Cross-Origin-Resource-Policy` keeps it from the page. And a page can't send
JSON to another site without asking first.

A page can also have its own name lead to this machine (DNS rebinding) and is then the same origin. So a request that
arrived at this machine's own address must name this machine, or a name that PALATE_HOSTS allows for a proxy.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import urllib.parse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from aiohttp import web

__all__ = ["Refused", "admit", "read_file", "read_json", "refuse_other_names", "refuse_other_sites", "text"]

LONGEST = 60_000  # bytes of a request; the longest that the browser sends, 200 pictures by name, has 30,000


class Refused(Exception):  # noqa: N818 - a decision, not a failure
    """The request is not done; its text goes back with this status."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.status = status


def admit(request: web.Request, reading: bool = False) -> None:
    """Let a request through, or raise `Refused`; see the two below."""
    refuse_other_sites(request.headers, reading)
    address = (request.transport.get_extra_info("sockname") if request.transport is not None else None) or ("",)
    refuse_other_names(request.headers.get("Host", ""), str(address[0]))


def refuse_other_names(host: str, address: str) -> None:
    """Let through what named this machine as itself, where it arrived at an address that only this machine has.

    Args:
        host: The request's Host header, with or without a port.
        address: Where the request arrived.

    Raises:
        Refused: it was sent to another name that leads here.
    """
    try:
        name = urllib.parse.urlsplit(f"//{host}").hostname or ""
    except ValueError:
        name = host
    allowed = {one.strip().lower() for one in os.environ.get("PALATE_HOSTS", "").split(",")} | {"localhost", ""}
    if _loopback(address) and not _loopback(name) and name not in allowed:
        raise Refused(
            f"Cannot do that under the name {ascii(name)[1:-1][:100]}: it leads to this machine only. Open ComfyUI "
            "at 127.0.0.1, or start it with that name in PALATE_HOSTS.",
            403,
        )


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


async def read_file(request: web.Request, most: int) -> bytes:
    """Return a request's body of at most so many bytes, sent as plain bytes: of these a page has to ask first, too.

    Raises:
        Refused: it is something else, or larger.
    """
    if request.content_type != "application/octet-stream":
        raise Refused("The request must be application/octet-stream.", 415)
    raw = bytearray()
    async for part in request.content.iter_any():
        raw += part
        if len(raw) > most:
            raise Refused(f"The file is larger than {most:,} bytes.", 413)
    return bytes(raw)


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


def _loopback(address: str) -> bool:
    with contextlib.suppress(ValueError):
        found = ipaddress.ip_address(address)
        return (getattr(found, "ipv4_mapped", None) or found).is_loopback
    return False


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number in JSON")
