"""Who may call ComfyUI's routes of the pack, and what a request may hold. No ComfyUI."""

from __future__ import annotations

import asyncio
from typing import Any

import node_modules
import pytest

closed = node_modules.node_module("closed")
HERE = {"Host": "127.0.0.1:8188"}


@pytest.mark.parametrize(
    "headers",
    [
        {},  # a program
        {"Origin": "http://127.0.0.1:8188"},
        {"Origin": "HTTP://127.0.0.1:8188"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "https://behind.a.proxy"},
        {"Origin": "https://behind.a.proxy", "X-Forwarded-Host": "behind.a.proxy"},
    ],
)
def test_comfyuis_own_page_and_programs_may_ask(headers: dict[str, str]) -> None:
    closed.refuse_other_sites(HERE | headers)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:9000"},  # another port of this machine
        {"Origin": "http://127.0.0.1"},
        {"Origin": "null"},  # a sandboxed frame, a file
        {"Origin": "http://["},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:8188"},
        {"Sec-Fetch-Site": ""},
        {"Sec-Fetch-Site": "none"},
    ],
)
def test_other_sites_pages_may_not(headers: dict[str, str]) -> None:
    with pytest.raises(closed.Refused, match="only ComfyUI's own page") as refused:
        closed.refuse_other_sites(HERE | headers)
    assert refused.value.status == 403


def test_a_picture_may_be_opened_by_its_address() -> None:
    closed.refuse_other_sites(HERE | {"Sec-Fetch-Site": "none"}, reading=True)
    with pytest.raises(closed.Refused):
        closed.refuse_other_sites(HERE | {"Sec-Fetch-Site": "cross-site"}, reading=True)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1:8188", "127.0.0.1"),
        ("localhost:8188", "::1"),
        ("[::1]:8188", "::1"),
        ("", "127.0.0.1"),
        ("my.proxy", "::ffff:127.0.0.1"),
        ("studio.lan:8188", "192.168.0.7"),  # asked over the network
        ("anything", "/run/comfy.sock"),
    ],
)
def test_this_machine_may_be_called_by_its_names(host: str, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALATE_HOSTS", "other.proxy, MY.proxy")
    closed.refuse_other_names(host, address)


@pytest.mark.parametrize(
    "host", ["evil.example:8188", "evil.example", "127.0.0.1.evil.example", "10.0.0.1", "[::2]", "[x"]
)
@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
def test_another_name_that_leads_here_is_refused(host: str, address: str) -> None:
    with pytest.raises(closed.Refused, match="PALATE_HOSTS") as refused:
        closed.refuse_other_names(host, address)
    assert refused.value.status == 403


class Request:
    """A request with this body."""

    content_type = "application/json"

    def __init__(self, body: bytes) -> None:
        self.body, self.content = body, self

    async def iter_chunked(self, size: int) -> Any:
        for start in range(0, len(self.body), size):
            yield self.body[start : start + size]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"seconds": NaN}', "not JSON"),
        (b'{"seconds": -Infinity}', "not JSON"),
        (b'{"seconds": ' + b"1" * 5000 + b"}", "not JSON"),
        (b'{"a":' * 3000 + b"1" + b"}" * 3000, "not JSON"),
        (b"[]", "must be an object"),
        (b" " * 60_001, "longer than 60000 bytes"),
    ],
)
def test_bodies_that_make_no_sense_are_refused_in_one_sentence(body: bytes, said: str) -> None:
    with pytest.raises(closed.Refused, match=said) as refused:
        asyncio.run(closed.read_json(Request(body)))
    assert refused.value.status == 400


def test_fields_must_be_text() -> None:
    assert closed.text({"person": "ann"}, "person") == "ann"
    for body in ({}, {"person": ""}, {"person": 1}, {"person": ["ann"]}):
        with pytest.raises(closed.Refused, match="person is missing or not text"):
            closed.text(body, "person")
