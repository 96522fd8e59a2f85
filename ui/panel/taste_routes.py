"""Requests of the tab "Taste": what was learned, and every answer, to look at, change and delete."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Body

from ...adapters.comparisons import Comparison
from ...adapters.errors import ComparisonError, NotEnoughAnswersError, PreferenceError
from .answers import PlainRoute
from .compare_routes import tab_of
from .studio import Studio
from .taste_view import answer_row, answer_rows, nothing_yet, taste_shown

__all__ = ["taste_routes"]

PAGE = 20  # answers


def taste_routes(studio: Studio) -> APIRouter:
    """Return the routes."""
    api = APIRouter(prefix="/palate/api", route_class=PlainRoute)

    @api.post("/taste")
    def taste(body: dict[str, Any] = Body(...)) -> dict[str, Any]:  # noqa: B008
        person = tab_of(studio, body).person
        answers = studio.store.count(person)
        try:
            html = taste_shown(studio.learned(person))
        except NotEnoughAnswersError as error:
            text = str(error) if answers else "Choose between some pictures, and your taste shows up here."
            html = nothing_yet("Nothing learned yet", text)
        except PreferenceError as error:  # no encoder, say: the answers can still be looked at
            html = nothing_yet("Your taste can't be worked out", str(error))
        return {"html": html, "answers": answers}

    @api.post("/answers")
    def answers(body: dict[str, Any] = Body(...)) -> dict[str, Any]:  # noqa: B008
        before = body.get("before")
        person = tab_of(studio, body).person
        found = studio.store.newest(person, PAGE + 1, int(before) if before is not None else None)
        return {"rows": answer_rows(found[:PAGE]), "more": found[PAGE - 1].id if len(found) > PAGE else None}

    @api.post("/answers/change")
    def change(body: dict[str, Any] = Body(...)) -> dict[str, Any]:  # noqa: B008
        one = _own(studio, body)
        return {"row": answer_row(studio.store.change(one.id or 0, str(body.get("outcome"))))}

    @api.post("/answers/delete")
    def delete(body: dict[str, Any] = Body(...)) -> dict[str, Any]:  # noqa: B008
        tab_of(studio, body).deleted = studio.store.delete(_own(studio, body).id or 0)
        return {}

    @api.post("/answers/restore")
    def restore(body: dict[str, Any] = Body(...)) -> dict[str, Any]:  # noqa: B008
        session = tab_of(studio, body)
        if session.deleted is None:
            raise ComparisonError("Cannot bring the answer back: nothing was deleted in this tab since it was opened.")
        restored, session.deleted = studio.store.add(session.deleted), None
        return {"row": answer_row(restored)}

    return api


def _own(studio: Studio, body: dict[str, Any]) -> Comparison:
    """Return the answer that a request is about; it must be of the person who asks."""
    person, number = tab_of(studio, body).person, int(body.get("id") or 0)
    found = next(iter(studio.store.newest(person, 1, number + 1)), None)
    if found is None or found.id != number:
        raise ComparisonError(f"Cannot find answer {number}: {person[:60]!r} has none of this number. Reload the list.")
    return found
