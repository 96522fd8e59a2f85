"""The panel's door: this machine only, its own page only."""

import asyncio
import socket
from types import SimpleNamespace

import pytest
from palate.ui.panel import server
from palate.ui.panel.server import Gate, PanelError


def knock(headers, kind="http"):
    """Send one request through the gate and return what came back, "inside" when it was let in."""
    sent = []

    async def inside(scope, receive, send):
        await send("inside")

    async def send(message):
        sent.append(message)

    scope = {"type": kind, "headers": [(name.encode(), value.encode()) for name, value in headers.items()]}
    asyncio.run(Gate(inside)(scope, None, send))
    first = sent[0]
    return first if isinstance(first, str) else first.get("status", first["type"])


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "127.0.0.1:7861"},
        {"host": "localhost:7861"},
        {"host": "127.0.0.1:7861", "origin": "http://127.0.0.1:7861"},
    ],
)
def test_the_panels_own_page_is_let_in(headers):
    assert knock(headers) == "inside"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": "evil.example"},
        {"host": "127.0.0.1.evil.example:7861"},
        {"host": "127.0.0.1:7861", "origin": "http://evil.example"},
        {"host": "127.0.0.1:7861", "origin": "http://127.0.0.1:8188"},
        {"host": "127.0.0.1:7861", "origin": "null"},
    ],
)
def test_everybody_else_is_turned_away(headers):
    assert knock(headers) == 403
    assert knock(headers, "websocket") == "websocket.close"


def test_a_taken_port_is_said():
    with socket.socket() as taken:
        taken.bind((server.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PanelError, match=f"port {port} of 127.0.0.1 is taken"):
            server._bind(port)


def test_any_free_port_is_found_when_asked_for():
    with server._bind(0) as listener:
        host, port = listener.getsockname()
    assert host == "127.0.0.1"
    assert port > 0


def test_the_next_port_is_taken_when_none_was_asked_for(monkeypatch):
    with socket.socket() as taken:
        taken.bind((server.HOST, 0))
        taken.listen()
        monkeypatch.setattr(server, "PORT", taken.getsockname()[1])
        with server._bind(None) as listener:
            assert listener.getsockname()[1] != taken.getsockname()[1]


def test_where_it_is_open_is_said_in_one_line(monkeypatch, capfdbinary, tmp_path):
    class Silent:
        url = "http://127.0.0.1:7861/"
        studio = SimpleNamespace(store=SimpleNamespace(path=tmp_path))

        def __init__(self, studio, port):
            pass

        def run(self):
            pass

    monkeypatch.setattr(server, "Panel", Silent)
    monkeypatch.setattr(server, "Studio", lambda *arguments: None)
    server.open_panel(tmp_path, None, browser=False)
    assert capfdbinary.readouterr().out.count(b"\n") == 1
