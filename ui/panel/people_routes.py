"""Requests of the tab "People": who is there, other names, and forgetting."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Body

from ...adapters.errors import ComparisonError, PreferenceError
from ...adapters.taste import LearningReport
from .answers import PlainRoute, person_of
from .people_view import Someone, alike_table, people_rows
from .studio import Studio

__all__ = ["known", "people_routes"]


def people_routes(studio: Studio) -> APIRouter:
    """Return the routes."""
    api = APIRouter(prefix="/palate/api", route_class=PlainRoute)

    @api.post("/people")
    def people(body: dict[str, Any] = Body(...)) -> dict[str, Any]:  # noqa: B008
        current = person_of(body, studio.person)
        found = [
            Someone(one.person, one.answers, _known(studio, one.person), one.last)
            for one in studio.store.people_answers()
        ]
        if all(one.name != current for one in found):
            found.insert(0, Someone(current, 0, "", None))
        return {"rows": people_rows(found, current), "more": any(not one.accuracy and one.answers for one in found)}

    @api.post("/people/alike")
    def alike() -> dict[str, Any]:
        try:
            return {"html": alike_table(*studio.alike())}
        except PreferenceError:  # no encoder: the list above is all there is to say
            return {"html": ""}

    @api.post("/people/rename")
    def rename(body: dict[str, Any] = Body(...)) -> dict[str, Any]:  # noqa: B008
        before, name = str(body.get("before") or ""), str(body.get("name") or "").strip()
        answers = studio.store.rename(before, name)
        studio.half_lives.move(before, name)
        return {"name": name, "answers": answers}

    @api.post("/people/forget")
    def forget(body: dict[str, Any] = Body(...)) -> dict[str, Any]:  # noqa: B008
        name = str(body.get("name") or "")
        if body.get("typed") != name:
            raise ComparisonError("Cannot delete the answers: the name was not typed; expected it letter by letter.")
        answers = studio.store.forget(name)
        studio.half_lives.move(name)
        return {"answers": answers}

    return api


def _known(studio: Studio, person: str) -> str:
    """Return how well a person is known, as of their last look or a few answers ago."""
    report = studio.reports.latest(person)
    return "" if report is None else known(report)


def known(report: LearningReport) -> str:
    """Return how well its person is known; "" for not at all."""
    if report.accuracy is None or report.verdict == "few":
        return ""
    foreseen = f"{100 * report.accuracy:.0f}\u00a0% foreseen"  # the same number as under Taste
    return foreseen if report.better_than_coin else f"{foreseen}, maybe by chance"
