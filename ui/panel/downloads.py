"""Requests that every shelf of files has: one taken down, one put back, one saved by the browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from fastapi import APIRouter, Body, HTTPException
from fastapi.responses import FileResponse

from ...adapters.errors import PreferenceError, StoreError

__all__ = ["ANY_FILE", "file_named", "found", "shelf_routes"]

ANY_FILE = "application/octet-stream"
Found = TypeVar("Found")
Entry = TypeVar("Entry", covariant=True)


class Shelf(Protocol[Entry]):
    """Files by name, of which what was taken down can be put back."""

    def remove(self, name: str) -> object: ...

    def restore(self, name: str) -> Entry: ...

    def path(self, name: str) -> Path: ...


def shelf_routes(
    api: APIRouter, kind: str, shelf: Shelf[Entry], what: str, shown: Callable[[Entry], dict[str, Any]]
) -> None:
    """Add a shelf's requests.

    Args:
        api: Where to.
        kind: What they begin with, such as "tastes".
        shelf: The files.
        what: One of them in words, for who asks for one that isn't there.
        shown: What the browser is told of one that came back.
    """

    @api.post(f"/{kind}/remove")
    def remove(body: dict[str, Any] = Body(...)) -> dict[str, Any]:  # noqa: B008
        shelf.remove(str(body.get("file")))
        return {}

    @api.post(f"/{kind}/restore")
    def restore(body: dict[str, Any] = Body(...)) -> dict[str, Any]:  # noqa: B008
        return shown(shelf.restore(str(body.get("file"))))

    @api.get(f"/{kind}/{{name}}")
    def download(name: str) -> FileResponse:
        return file_named(shelf.path, name, what)


def file_named(path: Callable[[str], Path], name: str, what: str, media: str = ANY_FILE) -> FileResponse:
    """Return a file for the browser to save, or the answer that there is none of this name."""
    file = found(lambda: path(name), what)
    return FileResponse(file, media_type=media, filename=file.name)


def found(find: Callable[[], Found], what: str) -> Found:
    """Return what is looked for, or answer that there is no such thing.

    Raises:
        HTTPException: 404; or 500 with the reason where nobody can tell, because the disk or its index fails.
    """
    try:
        return find()
    except StoreError as error:
        raise HTTPException(500, str(error)) from error
    except PreferenceError as error:
        raise HTTPException(404, f"no such {what}") from error
