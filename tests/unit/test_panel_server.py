"""The panel's door: this machine only, its own page only."""

import asyncio
import base64
import socket
from types import SimpleNamespace

import pytest
from palate.ui.panel import gate, server
from palate.ui.panel.gate import Gate, Rules
from palate.ui.panel.server import PanelError


def knock(headers, kind="http", rules=None, method="GET", path="/"):
    """Send one request through the gate and return what came back, "inside" when it was let in."""
    sent = []

    async def inside(scope, receive, send):
        await send("inside")

    async def send(message):
        sent.append(message)

    scope = {"type": kind, "method": method, "path": path}
    scope["headers"] = [(name.encode(), value.encode()) for name, value in headers.items()]
    asyncio.run(Gate(inside, rules)(scope, None, send))
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


HERE = {"host": "127.0.0.1:7861"}


def with_password(word, user="anybody"):
    return HERE | {"authorization": "Basic " + base64.b64encode(f"{user}:{word}".encode()).decode()}


def test_a_password_is_asked_for_and_any_name_goes_with_it(monkeypatch):
    monkeypatch.setattr(gate, "PAUSE", 0.0)
    rules = Rules(password="süß: 1")
    assert knock(with_password("süß: 1"), rules=rules) == "inside"
    wrong = [HERE, with_password("süß"), with_password(""), HERE | {"authorization": "Basic !"}]
    for headers in [*wrong, HERE | {"authorization": "Bearer süß: 1".encode("latin-1").decode("latin-1")}]:
        assert knock(headers, rules=rules) == 401
    assert knock(HERE, "websocket", rules=rules) == "websocket.close"


def test_for_looking_only_nothing_changes_anything():
    rules = Rules(read_only=True)
    for path in ("taste", "people", "answers", "hello"):
        assert knock(HERE, rules=rules, method="POST", path=f"/palate/api/{path}") == "inside"
    assert knock(HERE, rules=rules, path="/palate/api/tastes") == "inside"
    assert knock(HERE, rules=rules, method="POST", path=f"/palate/api/jobs/{'a1' * 16}/stop") == "inside"
    assert knock(HERE, rules=rules, path="/palate/api/users/mara.safetensors") == 403
    for path in (
        "compare",
        "undo",
        "answers/delete",
        "people/forget",
        "paint",
        "tastes",
        "train",
        "tastes/save",
        "jobs/a1/stop",
    ):
        assert knock(HERE, rules=rules, method="POST", path=f"/palate/api/{path}") == 403
    for path in ("model", "gallery", "gallery/1.png", "train", "train/file/mara.safetensors", "embeddings/mara"):
        assert knock(HERE, rules=rules, path=f"/palate/api/{path}") == 403
        assert knock(HERE, path=f"/palate/api/{path}") == "inside"
    assert knock(HERE, rules=rules, method="POST", path="/gradio_api/upload") == 403
    assert knock(HERE, rules=rules, method="DELETE", path="/palate/api/taste/../answers") == 403


def test_another_name_is_let_in_only_when_it_is_allowed(monkeypatch):
    proxy = {"host": "tastes.example", "origin": "https://tastes.example"}
    assert knock(proxy) == 403
    monkeypatch.setenv("PALATE_HOSTS", "other.example, tastes.example")
    rules = Rules.from_environment()
    assert knock(proxy, rules=rules) == "inside"
    assert knock({"host": "tastes.example", "origin": "https://evil.example"}, rules=rules) == 403


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

        def __init__(self, studio, port, rules):
            pass

        def run(self):
            pass

    monkeypatch.setattr(server, "Panel", Silent)
    monkeypatch.setattr(server, "Studio", lambda *arguments: None)
    server.open_panel(tmp_path, None, browser=False)
    assert capfdbinary.readouterr().out.count(b"\n") == 1
