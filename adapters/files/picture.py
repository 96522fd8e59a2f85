"""A file inside a PNG picture, so that it can be passed on and dropped somewhere as one.

The bytes lie as they are in one chunk of their own, `plTe`: every viewer skips it, and nothing has to be unpacked to
get them back. Services that encode pictures anew throw it away; what is left then is a plain picture.

Source: PNG specification, third edition (W3C 2025), 5.3 chunk layout, 5.4 naming (ancillary, private, safe to copy).
"""

from __future__ import annotations

import zlib

from ..errors import FileFormatError

__all__ = ["carried", "carries", "carry"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHUNK, _END = b"plTe", b"IEND"


def carry(picture: bytes, content: bytes) -> bytes:
    """Return a PNG file with `content` inside; what it carried before is replaced.

    Args:
        picture: A PNG file.
        content: Of a small file.

    Raises:
        FileFormatError: the picture is no PNG, or cut off.
    """
    parts = [_SIGNATURE]
    for kind, data in _chunks("picture", picture, "a PNG"):
        if kind == _END:
            parts.append(_packed(_CHUNK, content))
        if kind != _CHUNK:
            parts.append(_packed(kind, data))
    return b"".join(parts)


def carried(name: str, data: bytes, what: str) -> bytes:
    """Return what a PNG carries, or the bytes themselves where they are no PNG.

    Args:
        name: Of the file, for messages.
        data: Its bytes.
        what: Is expected, for messages.

    Raises:
        FileFormatError: a picture that carries nothing, or is damaged.
    """
    if not data.startswith(_SIGNATURE):
        return data
    for kind, content in _chunks(name, data, what):
        if kind == _CHUNK:
            return content
    raise FileFormatError(
        f"Cannot read {name!r}: it is a picture that carries nothing; expected {what}. A service that it passed may "
        "have taken it out: ask for the original file."
    )


def carries(data: bytes) -> bool:
    """Whether a PNG file carries another one; False also for what is damaged or no PNG."""
    try:
        return any(kind == _CHUNK for kind, _ in _chunks("picture", data, "a PNG"))
    except FileFormatError:
        return False


def _chunks(name: str, data: bytes, what: str) -> list[tuple[bytes, bytes]]:
    """Kind and content of each chunk, up to the end mark."""
    found: list[tuple[bytes, bytes]] = []
    place = len(_SIGNATURE) if data.startswith(_SIGNATURE) else len(data)
    while place + 12 <= len(data):
        length, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        content, check = data[place + 8 : place + 8 + length], data[place + 8 + length : place + 12 + length]
        if len(check) < 4 or zlib.crc32(kind + content) != int.from_bytes(check, "big"):
            break
        found.append((kind, content))
        if kind == _END:
            return found
        place += 12 + length
    raise FileFormatError(f"Cannot read {name!r}: it is a damaged picture; expected {what}. Get the file again.")


def _packed(kind: bytes, content: bytes) -> bytes:
    check = zlib.crc32(kind + content)
    return len(content).to_bytes(4, "big") + kind + content + check.to_bytes(4, "big")
