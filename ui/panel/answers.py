"""How the page's own requests are answered: JSON, and every error in words."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect

from ...adapters.errors import PreferenceError
from .events import in_words

__all__ = ["PlainRoute", "person_of"]

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class PlainRoute(APIRoute):
    """A route whose errors are `{"error": text}`.

    They come with status 200: a browser writes every other one to its console, and none of them is the page's fault.
    """

    def get_route_handler(self) -> Handler:
        """Return FastAPI's handler inside of the one that catches."""
        inner = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await inner(request)
            except PreferenceError as error:
                return JSONResponse({"error": str(error)})
            except RequestValidationError:
                return JSONResponse({"error": "Cannot read what the page sent; expected its own requests. Reload it."})
            except HTTPException:
                raise
            except ClientDisconnect:
                return Response(status_code=400)  # who sent it is gone in the middle of it
            except Exception as error:
                return JSONResponse({"error": in_words(error)})

        return handle


def person_of(body: dict[str, Any], otherwise: str) -> str:
    """Return whose page it is.

    Raises:
        ComparisonError: nobody can have this name.
    """
    from ...adapters.comparisons.comparison import check_person

    return check_person(str(body.get("person") or otherwise))
