"""Requests of the tab "Compare": answers in, the next pairs out."""

from __future__ import annotations

import contextlib
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

__all__ = ["asker", "compare_routes", "tab_of"]

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
        _, person = _choosing(studio, body)
        names = [person, *studio.store.people()]
        return {"person": person, "people": list(dict.fromkeys(names)), **_count(studio, person)}

    @api.post("/compare")
    def compare(body: dict[str, Any] = Body(...)) -> dict[str, Any]:  # noqa: B008
        (session, person), done, problem = _choosing(studio, body), [], ""
        for given in _answers(body):
            try:
                session.answer(given.ticket, given.outcome, given.seconds, given.tiers, given.much)
            except ComparisonError as error:  # it never can be: those behind it must not wait for it
                problem = f"An answer could not be used. {error}"
            except Exception as error:  # whatever it was, the answer stays with the browser and comes again
                problem = f"Your answer was not stored. {in_words(error)}"
                break
            done.append(given.ticket)
        return {"done": done, "problem": problem, **_state(studio, live, session, person, bool(body.get("waiting")))}

    @api.post("/leaving")
    def leaving(body: dict[str, Any] = Body(...)) -> dict[str, Any]:  # noqa: B008
        nowhere = Session(studio, person_of(body, studio.person))  # the page is gone: its tab needs no pairs
        for given in _answers(body):
            with contextlib.suppress(ComparisonError):
                nowhere.answer(given.ticket, given.outcome, given.seconds, given.tiers, given.much)
        return {}

    @api.post("/undo")
    def undo(body: dict[str, Any] = Body(...)) -> dict[str, Any]:  # noqa: B008
        session, person = _choosing(studio, body)
        undone = session.undo(person) is not None
        return {"undone": undone, **_state(studio, live, session, person)}

    @api.post("/wanted")
    def wanted(body: dict[str, Any] = Body(...)) -> dict[str, Any]:  # noqa: B008
        session, person = _choosing(studio, body)
        now = session.wished(person)
        wish = Wanted(
            str(body.get("prompt", now.prompt) or "").strip(),
            str(body.get("folder", now.folder) or "").strip(),
            body.get("way", now.way),
            body.get("surprise", now.surprise),
        )
        session.use(wish, person)
        return _state(studio, live, session, person)


def _second_look(api: APIRouter, studio: Studio, live: Live) -> None:
    @api.post("/second-look")
    def slips(body: dict[str, Any] = Body(...)) -> dict[str, Any]:  # noqa: B008
        found = live.slips(asker(studio, body))
        return {
            "slips": [
                {"id": one.id, "images": [one.left, one.right], "prompt": one.prompt, "outcome": one.outcome}
                for one in found
            ]
        }

    @api.post("/second-look/answer")
    def look_again(body: dict[str, Any] = Body(...)) -> dict[str, Any]:  # noqa: B008
        (session, person), number = _choosing(studio, body), body.get("id")
        whole = isinstance(number, int) and not isinstance(number, bool)
        live.look_again(person, int(number or 0) if whole else 0, str(body.get("before")), str(body.get("outcome")))
        return _state(studio, live, session, person)


def tab_of(studio: Studio, body: dict[str, Any]) -> Session:
    """Return the session of the browser tab that asks; it goes on as whoever answers there.

    Raises:
        ComparisonError: the request names no tab.
    """
    key = str(body.get("tab") or "")
    if not key or len(key) > LONGEST_KEY:
        raise ComparisonError("Cannot tell which tab is asking; expected the page's own requests. Reload the page.")
    return studio.session(f"tab:{key}")


def asker(studio: Studio, body: dict[str, Any]) -> str:
    """Return who asks: as the request says, else whoever answers in its tab.

    Raises:
        ComparisonError: nobody can have this name, or the request names no tab.
    """
    return person_of(body, tab_of(studio, body).person)


def _choosing(studio: Studio, body: dict[str, Any]) -> tuple[Session, str]:
    """Return the session of the tab that asks, and who asks: whoever answers there from now on.

    Another request may name somebody else a moment later, so that what is done next is done for this person by name.
    """
    session, person = tab_of(studio, body), asker(studio, body)
    session.use_person(person)
    return session, person


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


def _state(studio: Studio, live: Live, session: Session, person: str, waiting: bool = False) -> dict[str, Any]:
    """Return the pairs that the browser holds from now on, and what is written around them."""
    stopped, pairs = "", ()
    try:
        pairs = session.pairs(HAND, 0.0 if studio.closing.is_set() or not waiting else WAIT, person)
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
        **_count(studio, person),
        "live": live.view(person, studio.store.count(person), studio.reports.latest(person)),
    }


def _count(studio: Studio, person: str) -> dict[str, Any]:
    progress = progress_of(studio.store.count(person), studio.reports.latest(person))
    return {"answers": progress.answers, "progress": progress.text, "share": round(progress.share, 3)}
