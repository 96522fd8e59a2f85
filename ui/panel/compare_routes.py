"""Requests of the tab "Compare": answers in, the next pairs out."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from fastapi import APIRouter, Body

from ...adapters.errors import ComparisonError
from .answers import PlainRoute, person_of
from .compare_live import Live
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
    live = Live(studio)
    _comparing(api, studio, live)
    _second_look(api, studio, live)
    return api


def _comparing(api: APIRouter, studio: Studio, live: Live) -> None:
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
                session.answer(given.ticket, given.outcome, given.seconds, given.tiers, given.much)
            except ComparisonError as error:  # it never can be: those behind it must not wait for it
                problem = f"An answer could not be used. {error}"
            except Exception as error:  # whatever it was, the answer stays with the browser and comes again
                problem = f"Your answer was not stored. {in_words(error)}"
                break
            done.append(given.ticket)
        return {"done": done, "problem": problem, **_state(studio, live, session, bool(body.get("waiting")))}

    @api.post("/undo")
    def undo(body: dict[str, Any] = Body(...)) -> dict[str, Any]:  # noqa: B008
        session = tab_of(studio, body)
        undone = session.undo() is not None
        return {"undone": undone, **_state(studio, live, session)}

    @api.post("/wanted")
    def wanted(body: dict[str, Any] = Body(...)) -> dict[str, Any]:  # noqa: B008
        session = tab_of(studio, body)
        now = session.wished()
        session.use(
            Wanted(
                str(body.get("prompt", now.prompt) or "").strip(),
                str(body.get("folder", now.folder) or "").strip(),
                body.get("way", now.way),
                body.get("surprise", now.surprise),
            )
        )
        return _state(studio, live, session)


def _second_look(api: APIRouter, studio: Studio, live: Live) -> None:
    @api.post("/second-look")
    def slips(body: dict[str, Any] = Body(...)) -> dict[str, Any]:  # noqa: B008
        found = live.slips(tab_of(studio, body).person)
        return {
            "slips": [
                {"id": one.id, "images": [one.left, one.right], "prompt": one.prompt, "outcome": one.outcome}
                for one in found
            ]
        }

    @api.post("/second-look/answer")
    def look_again(body: dict[str, Any] = Body(...)) -> dict[str, Any]:  # noqa: B008
        session, number = tab_of(studio, body), body.get("id")
        whole = isinstance(number, int) and not isinstance(number, bool)
        live.look_again(
            session.person, int(number or 0) if whole else 0, str(body.get("before")), str(body.get("outcome"))
        )
        return _state(studio, live, session)


def tab_of(studio: Studio, body: dict[str, Any]) -> Session:
    """Return the session of the browser tab that asks, with the person that it names.

    Raises:
        ComparisonError: nobody can have this name, or the request names no tab.
    """
    key = str(body.get("tab") or "")
    if not key or len(key) > LONGEST_KEY:
        raise ComparisonError("Cannot tell which tab is asking; expected the page's own requests. Reload the page.")
    return studio.session(f"tab:{key}", person_of(body, studio.person) if body.get("person") else None)


@dataclass(frozen=True)
class _Given:
    """One answer as it came from a browser."""

    ticket: str
    outcome: str
    seconds: float | None
    tiers: tuple[tuple[str, ...], ...]
    much: bool | None = None


def _answers(body: dict[str, Any]) -> list[_Given]:
    """Return the answers that came with a request, in their order; what is no answer at all is left out."""
    given = body.get("answers")
    return [_given(one) for one in given if isinstance(one, dict)] if isinstance(given, list) else []


def _given(one: dict[str, Any]) -> _Given:
    seconds, tiers = one.get("seconds"), one.get("tiers")
    known = isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and math.isfinite(seconds)
    lists = isinstance(tiers, list) and all(isinstance(tier, list) for tier in tiers)
    return _Given(
        str(one.get("ticket")),
        str(one.get("outcome")),
        float(seconds) if known and seconds is not None else None,
        tuple(tuple(map(str, tier)) for tier in tiers or ()) if lists else (),
        one["much"] if isinstance(one.get("much"), bool) else None,
    )


def _state(studio: Studio, live: Live, session: Session, waiting: bool = False) -> dict[str, Any]:
    """Return the pairs that the browser holds from now on, and what is written around them."""
    stopped, pairs = "", ()
    try:
        pairs = session.pairs(HAND, 0.0 if studio.closing.is_set() or not waiting else WAIT)
    except Exception as error:
        stopped = in_words(error)
    source = session.source
    broken = source.broken if isinstance(source, FolderSource) else 0
    return {
        "pairs": [{"ticket": one.ticket, "images": one.images, "prompt": one.prompt} for one in pairs],
        "stopped": stopped,
        "doing": studio.loading.text or (source.doing if source else ""),
        "broken": broken,
        "found": source.count if isinstance(source, FolderSource) else None,
        "wanted": asdict(session.wanted),
        **_count(studio, session),
        "live": live.view(session.person, studio.store.count(session.person), studio.reports.latest(session.person)),
    }


def _count(studio: Studio, session: Session) -> dict[str, Any]:
    progress = progress_of(studio.store.count(session.person), studio.reports.latest(session.person))
    return {"answers": progress.answers, "progress": progress.text, "share": round(progress.share, 3)}
