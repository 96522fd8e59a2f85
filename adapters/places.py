"""Where Palate's things live on this machine, the same place for every host."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import unicodedata
from pathlib import Path

from .errors import ComparisonError, StoreError

__all__ = [
    "named_on_hub",
    "not_there",
    "palate_home",
    "ppd_folder",
    "safe_name",
    "tastes_folder",
    "typed_path",
    "users_folder",
]

# Lower case only: "Mara" and "mara" are two people, and one file on macOS and Windows.
_PLAIN = re.compile(r"[a-z0-9]+(?:[_-][a-z0-9]+)*")
_HASH_TAIL = re.compile(r"-[0-9a-f]{12}$")
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}
_PLAIN_LENGTH = 60  # characters
_READABLE_LENGTH = 40  # characters of the name that stay readable in front of the hash


def palate_home() -> Path:
    """Return the folder of the store and of all that is saved, made when missing.

    `$PALATE_HOME` if it is set, else `palate` in the platform's folder for user data.

    Raises:
        StoreError: the folder can't be made.
    """
    chosen = os.environ.get("PALATE_HOME", "").strip()
    return _made(typed_path(chosen).absolute() if chosen else _user_data() / "palate")


def tastes_folder() -> Path:
    """Return the folder of saved tastes, made when missing.

    Raises:
        StoreError: the folder can't be made.
    """
    return _made(palate_home() / "tastes")


def users_folder() -> Path:
    """Return the folder of saved user embeddings, made when missing.

    Raises:
        StoreError: the folder can't be made.
    """
    return _made(palate_home() / "users")


def ppd_folder() -> Path:
    """Return the folder of PPD weights for all hosts, made when missing.

    Raises:
        StoreError: the folder can't be made.
    """
    return _made(palate_home() / "ppd")


def typed_path(text: str | os.PathLike[str]) -> Path:
    """Return the path that a person typed, where `~` is their home.

    Unlike pathlib's own, this leaves a `~name` that nobody has as it is. For what may be no path at all, ask
    `os.path.isfile` and `os.path.isdir`: pathlib's raise when a name is too long for the file system.
    """
    return Path(os.path.expanduser(text))


def named_on_hub(text: str) -> bool:
    """Whether what a person typed, and what is no file or folder here, can be a name on the Hugging Face hub.

    Such names are an owner's and a repository's. Where there is a folder of the first name here, as in `models/sdxl`,
    the second one was mistyped: nothing is asked of the hub then.
    """
    owner, slash, name = text.partition("/")
    return bool(owner and slash and name) and "/" not in name and owner[0] not in ".~" and not os.path.isdir(owner)


def not_there(text: str) -> str:
    """Say that what a person typed isn't here, and in which folder of it the rest was looked for, if there is one."""
    path = typed_path(text)
    folder = next((parent for parent in path.parents if os.path.isdir(parent)), None)
    if folder is None or folder in (Path(), Path(path.anchor)):
        return "no such folder or file"
    mistaken = not os.path.isabs(path) and len(path.parts) == 2  # written like a name on the hub
    return f"no such folder or file in {str(folder)!r}" + (
        ", which is a folder here, so the hub was not asked" if mistaken and folder.name not in ("..", ".") else ""
    )


def safe_name(text: str) -> str:
    """Return a file name, without ending, that stands for this text and for no other.

    A name of lower-case letters, digits, `-` and `_` stays as it is. Any other gets what is readable of it and a hash,
    so that no name leaves its folder, hides a file, meets a device name of Windows or grows beyond 255 bytes.

    Args:
        text: A person's or a taste's name, anything but blank.

    Raises:
        ComparisonError: the text is blank.
    """
    if not text.strip():
        raise ComparisonError(
            "Cannot make a file name: the name is blank; expected at least one character. Type a name."
        )
    if len(text) <= _PLAIN_LENGTH and _PLAIN.fullmatch(text) and not _HASH_TAIL.search(text) and text not in _RESERVED:
        return text
    readable = re.sub(r"\W+", "-", unicodedata.normalize("NFC", text[: 4 * _READABLE_LENGTH]))
    readable = readable[:_READABLE_LENGTH].strip("-_") or "name"
    return f"{readable}-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StoreError(
            f"Cannot use {folder} as Palate's folder: {reason}; expected a folder that can be written. "
            "Set PALATE_HOME to one."
        ) from error
    return folder


def _user_data() -> Path:
    """Return the platform's folder for data of this user."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    configured = os.environ.get("XDG_DATA_HOME", "")
    # The XDG specification tells programs to ignore a relative path here.
    return Path(configured) if Path(configured).is_absolute() else Path.home() / ".local" / "share"
