"""Requests of the tab "Compare": answers in, the next pairs out."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Body

from ...adapters.errors import ComparisonError
from .answers import PlainRoute, person_of
from .events import in_words
from .progress import progress_of
from .session import HAND, Session
from .sources import FolderSource
from .studio import Studio
from .wanted import Wanted

__all__ = ["compare_routes", "tab_of"]

WAIT = 0.4  # s that a request waits for a pair before it says what is being done
LONGEST_KEY = 80  # characters of a browser tab's key


def compare_routes(studio: Studio) -> APIRouter:
    """Return the routes."""
    api = APIRouter(prefix="/palate/api", route_class=PlainRoute)

    @api.post("/hello")
    def hello(body: dict[str, Any] = Body(...)) -> dict[str, Any]:  # noqa: B008
        session = tab_of(studio, body)
        names = [session.person, *studio.store.people()]
        return {"person": session.person, "people": list(dict.fromkeys(names)), **_count(studio, session)}

    @api.post("/compare")
    def compare(body: dict[str, Any] = Body(...)) -> dict[str, Any]:  # noqa: B008
        session, done, problem = tab_of(studio, body), [], ""
        for given in _answers(body):
            try:
                session.answer(given[0], given[1], given[2])
            except Exception as error:  # whatever it was, the answer stays with the browser and comes again
                problem = f"Your answer was not stored. {in_words(error)}"
                break
            done.append(given[0])
        return {"done": done, "problem": problem, **_state(studio, session, bool(body.get("waiting")))}

    @api.post("/undo")
    def undo(body: dict[str, Any] = Body(...)) -> dict[str, Any]:  # noqa: B008
        session = tab_of(studio, body)
        undone = session.undo() is not None
        return {"undone": undone, **_state(studio, session, False)}

    @api.post("/wanted")
    def wanted(body: dict[str, Any] = Body(...)) -> dict[str, Any]:  # noqa: B008
        session = tab_of(studio, body)
        session.use(Wanted(str(body.get("prompt") or "").strip(), str(body.get("folder") or "").strip()))
        return _state(studio, session, False)

    return api


def tab_of(studio: Studio, body: dict[str, Any]) -> Session:
    """Return the session of the browser tab that asks, with the person that it names.

    Raises:
        ComparisonError: nobody can have this name, or the request names no tab.
    """
    key = str(body.get("tab") or "")
    if not key or len(key) > LONGEST_KEY:
        raise ComparisonError("Cannot tell which tab is asking; expected the page's own requests. Reload the page.")
    return studio.session(f"tab:{key}", person_of(body, studio.person) if body.get("person") else None)


def _answers(body: dict[str, Any]) -> list[tuple[str, str, float | None]]:
    """Return ticket, outcome and seconds of the answers that came with a request, in their order."""
    found = []
    for given in body.get("answers") or ():
        seconds = given.get("seconds")
        known = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
        found.append((str(given.get("ticket")), str(given.get("outcome")), float(seconds) if known else None))
    return found


def _state(studio: Studio, session: Session, waiting: bool) -> dict[str, Any]:
    """Return the pairs that the browser holds from now on, and what is written around them."""
    stopped, pairs = "", ()
    try:
        pairs = session.pairs(HAND, 0.0 if studio.closing.is_set() or not waiting else WAIT)
    except Exception as error:
        stopped = in_words(error)
    source = session.source
    broken = source.broken if isinstance(source, FolderSource) else 0
    return {
        "pairs": [{"ticket": one.ticket, "left": one.left, "right": one.right, "prompt": one.prompt} for one in pairs],
        "stopped": stopped,
        "doing": source.doing if source else "",
        "broken": broken,
        "found": source.count if isinstance(source, FolderSource) else None,
        "wanted": {"prompt": session.wanted.prompt, "folder": session.wanted.folder},
        **_count(studio, session),
    }


def _count(studio: Studio, session: Session) -> dict[str, Any]:
    progress = progress_of(studio.store.count(session.person), studio.reports.latest(session.person))
    return {"answers": progress.answers, "progress": progress.text, "share": round(progress.share, 3)}
