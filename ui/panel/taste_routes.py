"""Requests of the tab "Taste": what was learned, and every answer, to look at, change and delete."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import APIRouter, Body
from fastapi.responses import FileResponse, Response

from ...adapters.comparisons import Comparison, Ranking
from ...adapters.errors import CancelledError, ComparisonError, EncoderError, NotEnoughAnswersError, PreferenceError
from .answers import PlainRoute
from .compare_routes import asker, tab_of
from .downloads import file_named, found
from .jobs import Job
from .rooms import Rooms
from .studio import Studio
from .taste_parts import accuracy_of
from .taste_view import answer_row, answer_rows, nothing_yet, taste_shown

__all__ = ["taste_routes"]

PAGE = 20  # answers
WAIT = 0.4  # s that a request waits for work; what takes longer is followed, and can be stopped
POLL = 0.02  # s between two looks whether somebody still waits
LONGEST = 2000  # characters of a prompt to look at
FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}  # an id's picture never changes


def taste_routes(rooms: Rooms) -> APIRouter:
    """Return the routes."""
    api = APIRouter(prefix="/palate/api", route_class=PlainRoute)
    _learned(api, rooms)
    _made(api, rooms)
    _answers(api, rooms.studio)
    return api


def _learned(api: APIRouter, rooms: Rooms) -> None:
    studio, looks = rooms.studio, rooms.looks

    @api.post("/taste")
    def taste(body: dict[str, Any] = Body(...)) -> dict[str, Any]:  # noqa: B008
        person, subject = asker(studio, body), _subject(body)
        answers = studio.store.count(person)
        if answers and looks.kept(person, subject) is None:
            job = _begun(rooms, f"look {body.get('tab')}", lambda job: _look(rooms, person, subject, job))
            if job is not None:
                return job
        try:
            html = taste_shown(looks.of(person, subject), looks.subjects(person), studio.half_lives.of(person))
        except NotEnoughAnswersError as error:
            text = str(error) if answers else "Choose between some pictures, and your taste shows up here."
            html = nothing_yet("Nothing learned yet", text)
        except PreferenceError as error:  # no encoder, say: the answers can still be looked at
            html = nothing_yet("Your taste can't be worked out", str(error))
        return {"html": html, "answers": answers}

    @api.post("/taste/half-life")
    def half_life(body: dict[str, Any] = Body(...)) -> dict[str, Any]:  # noqa: B008
        person = asker(studio, body)
        studio.half_lives.keep(person, body.get("days"))
        return {"half_life": studio.half_lives.of(person)}

    @api.post("/taste/accuracy")
    def accuracy(body: dict[str, Any] = Body(...)) -> dict[str, Any]:  # noqa: B008
        person = asker(studio, body)
        if studio.reports.current(person) is None:
            job = _begun(rooms, f"test {body.get('tab')}", lambda job: _test(rooms, person, job))
            if job is not None:
                return job
        report = studio.reports.of(person)
        return {"html": accuracy_of(report), "curve": report.curve, "ceiling": report.ceiling}


def _made(api: APIRouter, rooms: Rooms) -> None:
    """Pictures and pages of what was learned."""
    studio = rooms.studio

    @api.post("/taste/paint")
    def paint(body: dict[str, Any] = Body(...)) -> dict[str, Any]:  # noqa: B008
        person, subject = asker(studio, body), _subject(body)
        work: Callable[[Job], None] = lambda job: rooms.painted.more(subject, person, job)  # noqa: E731
        return rooms.jobs.start(f"strip {body.get('tab')}", work).state()

    @api.post("/taste/page")
    def page(body: dict[str, Any] = Body(...)) -> dict[str, Any]:  # noqa: B008
        person, subject = asker(studio, body), _subject(body)
        named, prompts = bool(body.get("named")), bool(body.get("prompts"))
        work: Callable[[Job], None] = lambda job: rooms.pages.save(person, subject, named, prompts, job)  # noqa: E731
        return rooms.jobs.start(f"page {body.get('tab')}", work).state()

    @api.get("/pages/{name}")
    def saved(name: str) -> FileResponse:
        return file_named(rooms.pages.path, name, "page", "text/html")

    @api.get("/thumbs/{image_id}")
    def thumb(image_id: str) -> Response:
        picture = found(lambda: rooms.thumbs.of(image_id), "picture")
        return Response(picture, media_type="image/jpeg", headers=FOREVER)


def _begun(rooms: Rooms, owner: str, work: Callable[[Job], None]) -> dict[str, Any] | None:
    """Begin work; None when it is over at once, well or not, else the job to follow."""
    job = rooms.jobs.start(owner, work)
    return None if job.wait(WAIT) else job.state()


def _look(rooms: Rooms, person: str, subject: str, job: Job) -> None:
    job.tell(0.0, "Loading the encoder…")
    rooms.studio.encoder()
    rooms.looks.encode(person, subject, _teller(job, "Looking at the pictures…"))
    job.tell(1.0, "Learning from the answers…")
    rooms.looks.of(person, subject)


def _teller(job: Job, text: str) -> Callable[[int, int], None]:
    def tell(done: int, count: int) -> None:
        if job.cancelled():
            raise CancelledError("Stopped.")
        job.tell(done / max(count, 1), f"{text} {done} of {count}" if count else "")

    return tell


def _test(rooms: Rooms, person: str, job: Job) -> None:
    """Work the report out in a thread of its own: it can't be stopped, but who waits can be let go."""
    with contextlib.suppress(EncoderError):  # told by the report
        rooms.looks.encode_others(person, _teller(job, "Looking at what others saw…"))
    job.tell(0.0, "Testing the taste on every answer…")
    over, wrong = threading.Event(), []

    def test() -> None:
        try:
            rooms.studio.reports.of(person)
        except Exception as error:  # told by whoever waits
            wrong.append(error)
        finally:
            over.set()

    threading.Thread(target=test, name="palate-report", daemon=True).start()
    while not over.wait(POLL):
        if job.cancelled():
            raise CancelledError("Stopped.")
    if wrong:
        raise wrong[0]


def _answers(api: APIRouter, studio: Studio) -> None:
    @api.post("/answers")
    def answers(body: dict[str, Any] = Body(...)) -> dict[str, Any]:  # noqa: B008
        before = body.get("before")
        person = asker(studio, body)
        found = studio.store.newest(person, PAGE + 1, int(before) if before is not None else None)
        return {
            "rows": answer_rows(found[:PAGE], _rankings(studio, found)),
            "more": found[PAGE - 1].id if len(found) > PAGE else None,
        }

    @api.post("/answers/change")
    def change(body: dict[str, Any] = Body(...)) -> dict[str, Any]:  # noqa: B008
        one = _own(studio, body)
        return {"row": answer_row(studio.store.change(one.id or 0, str(body.get("outcome"))))}

    @api.post("/answers/delete")
    def delete(body: dict[str, Any] = Body(...)) -> dict[str, Any]:  # noqa: B008
        one = _own(studio, body)
        whole = _rankings(studio, [one]).get(one.ranking or 0)
        deleted = studio.store.delete(one.id or 0)
        tab_of(studio, body).deleted = deleted and (whole or deleted)
        return {}

    @api.post("/answers/restore")
    def restore(body: dict[str, Any] = Body(...)) -> dict[str, Any]:  # noqa: B008
        session = tab_of(studio, body)
        if session.deleted is None:
            raise ComparisonError("Cannot bring the answer back: nothing was deleted in this tab since it was opened.")
        gone, session.deleted = session.deleted, None
        if isinstance(gone, Ranking):
            studio.store.add_ranking(gone)
        else:
            studio.store.add(gone)
        return {}


def _own(studio: Studio, body: dict[str, Any]) -> Comparison:
    """Return the answer that a request is about; it must be of the person who asks."""
    person, number = asker(studio, body), int(body.get("id") or 0)
    found = next(iter(studio.store.newest(person, 1, number + 1)), None)
    if found is None or found.id != number:
        raise ComparisonError(f"Cannot find answer {number}: {person[:60]!r} has none of this number. Reload the list.")
    return found


def _rankings(studio: Studio, answers: Sequence[Comparison]) -> dict[int, Ranking]:
    """Return the rankings that these answers stand for, by their number."""
    wanted = {one.ranking for one in answers if one.ranking is not None}
    if not wanted:
        return {}
    return {one.id: one for one in studio.store.rankings(answers[0].person) if one.id in wanted and one.id is not None}


def _subject(body: dict[str, Any]) -> str:
    return str(body.get("subject") or "").strip()[:LONGEST]
