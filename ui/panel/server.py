"""The panel's web server: on this machine only, pictures of the store beside Gradio's page."""

from __future__ import annotations

import logging
import os
import socket
import threading
import webbrowser
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from ...adapters.errors import PreferenceError
from .gate import Gate, Rules
from .studio import Studio
from .tools import Tools

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["Panel", "PanelError", "open_panel"]

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
PORT = 7861
TRIED = 10  # ports from PORT on, when none was asked for
FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}  # an id's picture never changes


class PanelError(PreferenceError, OSError):
    """The panel can't be opened on this machine as asked."""


class Panel:
    """A running panel.

    Args:
        studio: What the panel works on; closed with the panel.
        port: Port on 127.0.0.1; None: the first free one from 7861 on; 0: any.
        rules: Who gets in.
    """

    def __init__(self, studio: Studio, port: int | None = None, rules: Rules | None = None) -> None:
        import uvicorn

        self.studio = studio
        self._socket = _bind(port)
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://{HOST}:{self.port}/"
        # A browser keeps its connection open; waiting for it would make Ctrl-C seem dead.
        config = uvicorn.Config(
            Gate(web_app(studio, rules or Rules()), rules), log_level="warning", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._socket.listen()  # a browser that comes before the server runs waits, and isn't turned away
        self._on_signal = self._server.handle_exit
        self._server.handle_exit = self._leave  # type: ignore[method-assign]

    def run(self) -> None:
        """Serve until Ctrl-C or `stop`."""
        self.studio.warm()
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._socket.close()
            self.studio.close()

    def stop(self) -> None:
        """Ask `run` to return."""
        self._let_go()
        self._server.should_exit = True

    def _leave(self, number: int, frame: FrameType | None) -> None:
        self._let_go()
        self._on_signal(number, frame)

    def _let_go(self) -> None:
        # A page that waits for its pair would hold the server up until the pair is painted, and each open page would
        # leave a traceback about its cut connection.
        self.studio.shut()
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)


def web_app(studio: Studio, rules: Rules) -> FastAPI:
    """Return the web application: Gradio's page, and the pictures it shows."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("GRADIO_RUN_HISTORY", "False")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import gradio as gr
    from fastapi import FastAPI
    from fastapi.responses import FileResponse

    from .app import build
    from .compare_routes import compare_routes
    from .downloads import found
    from .generate_routes import generate_routes
    from .people_routes import people_routes
    from .rooms import Rooms
    from .share_routes import share_routes
    from .taste_routes import taste_routes
    from .theme import head, style, theme
    from .train_routes import train_routes

    rooms = Rooms(studio)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    for routes in (compare_routes, people_routes):
        app.include_router(routes(studio))
    for routes in (taste_routes, generate_routes, train_routes, share_routes):
        app.include_router(routes(rooms))

    @app.get("/palate/pictures/{image_id}")
    def picture(image_id: str) -> FileResponse:
        path = found(lambda: studio.store.image_path(image_id), "picture")
        return FileResponse(path, media_type="image/png", headers=FOREVER)

    return gr.mount_gradio_app(
        app,
        build(studio, rules.read_only),
        path="",
        server_name=HOST,
        footer_links=[],
        max_file_size="64mb",
        ssr_mode=False,
        theme=theme(),
        css=style(),
        head=head(),
    )


def open_panel(
    store: str | Path,
    tools: Tools,
    person: str | None = None,
    port: int | None = None,
    browser: bool = True,
    rules: Rules | None = None,
) -> None:
    """Open the panel and serve it until Ctrl-C.

    Raises:
        PanelError: the port is taken.
        StoreError: the store can't be opened.
    """
    panel = Panel(Studio(store, tools, person), port, rules)
    announce = f"Palate is open at {panel.url}  (Ctrl-C closes it; answers are in {panel.studio.store.path})"
    os.write(1, f"{announce}\n".encode())
    if browser:
        threading.Timer(0.5, webbrowser.open, (panel.url,)).start()
    panel.run()


def _bind(port: int | None) -> socket.socket:
    wanted = range(PORT, PORT + TRIED) if port is None else (port,)
    for number in wanted:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if os.name == "posix":  # on Windows the option would let two panels share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, number))
        except OSError:
            listener.close()
            continue
        return listener
    raise PanelError(
        f"Cannot open the panel: port {wanted[0]} of {HOST} is taken; expected a free one. Close the other panel, or "
        "choose another port with --port."
    )
