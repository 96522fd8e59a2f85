"""Who gets in: this machine's own browser, with a password if there is one, and for looking only if asked so."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import json
import os
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

__all__ = ["LOOKING", "Gate", "Rules"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

LOOKING = ("taste", "people")  # tabs of a panel for looking only
PAUSE = 0.7  # seconds after a wrong password
_API = "/palate/api/"
# What asks by POST and changes nothing; and what Gradio's page needs to appear.
_READING = {_API + path for path in ("hello", "taste", "taste/accuracy", "answers", "people", "people/alike")}
_READING |= {"/gradio_api/queue/join", "/gradio_api/heartbeat"}
_STOPPING = re.compile(rf"{_API}jobs/[0-9a-f]{{32}}/stop")  # what only who began it knows the number of
# What the tabs that stay closed ask for: it isn't shared, and asking for the model loads it.
_CLOSED = re.compile(rf"{_API}(model|gallery|train|embeddings|users)(/|$)")


@dataclass(frozen=True)
class Rules:
    """What the panel asks of who comes.

    Attributes:
        password: "" asks for none. read_only: Nothing can be answered, changed, made or brought in, and
            what was generated and trained is not shown.
        hosts: Names beside this machine's own that it may be called by: of a proxy or a tunnel.
    """

    password: str = ""
    read_only: bool = False
    hosts: frozenset[str] = frozenset()

    @classmethod
    def from_environment(cls, read_only: bool = False) -> Rules:
        """Password from PALATE_PASSWORD, names from PALATE_HOSTS, separated by commas, as in ComfyUI."""
        names = (name.strip().lower() for name in os.environ.get("PALATE_HOSTS", "").split(","))
        return cls(os.environ.get("PALATE_PASSWORD", ""), read_only, frozenset(name for name in names if name))


class Gate:
    """Lets in only what this machine's own browser asks of this address.

    A page of somebody else's in another tab can send requests to 127.0.0.1, or point its own name there. The first
    carry a foreign Origin, the second a foreign Host; both are turned away before Gradio sees them.
    """

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], rules: Rules | None = None) -> None:
        self._app, self._rules = app, rules or Rules()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
            if not self._own(headers):
                await _refuse(scope, send, 403, "This panel answers only its own page.")
                return
            if not self._knows_password(headers):
                if headers.get(b"authorization"):
                    await asyncio.sleep(PAUSE)
                await _refuse(scope, send, 401, "This panel asks for a password.", ask=True)
                return
            if self._rules.read_only and not _only_looks(scope):
                await _refuse(scope, send, 403, "This panel is for looking only; nothing can be changed here.")
                return
        await self._app(scope, receive, send)

    def _own(self, headers: Mapping[bytes, str]) -> bool:
        host, origin = headers.get(b"host", ""), headers.get(b"origin")
        name = re.sub(r":\d+$", "", host).lower()
        if name not in ("127.0.0.1", "localhost") and name not in self._rules.hosts:
            return False
        # A proxy may speak https to the browser and plain http to this server.
        return (
            origin is None or origin == f"http://{host}" or (name in self._rules.hosts and origin == f"https://{host}")
        )

    def _knows_password(self, headers: Mapping[bytes, str]) -> bool:
        if not self._rules.password:
            return True
        kind, _, told = headers.get(b"authorization", "").partition(" ")
        try:
            given = base64.b64decode(told, validate=True).partition(b":")[2] if kind.lower() == "basic" else b""
        except (binascii.Error, ValueError):
            given = b""
        return hmac.compare_digest(given, self._rules.password.encode())


def _only_looks(scope: Scope) -> bool:
    if scope["type"] == "websocket":
        return False
    path = str(scope.get("path", ""))
    if path in _READING or (scope.get("method") == "POST" and _STOPPING.fullmatch(path)):
        return True
    return scope.get("method") in ("GET", "HEAD") and not _CLOSED.match(path)


async def _refuse(scope: Scope, send: Send, status: int, why: str, ask: bool = False) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    of_page = str(scope.get("path", "")).startswith(_API)  # the page shows what it is told
    body = json.dumps({"error": why}).encode() if of_page else why.encode()
    headers = [(b"content-type", b"application/json" if of_page else b"text/plain; charset=utf-8")]
    if ask:
        headers.append((b"www-authenticate", b'Basic realm="Palate", charset="UTF-8"'))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
