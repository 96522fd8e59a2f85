"""Whether the encoder in use is the one that a file was made with, and how both are called where it isn't."""

from __future__ import annotations

from typing import Protocol

__all__ = ["NamedEncoder", "called", "other_encoder"]

_SHOWN = 12  # characters of an identity shown in messages


class NamedEncoder(Protocol):
    """An encoder, as far as a file is held against it."""

    identity: str
    name: str


def other_encoder(encoder: str | NamedEncoder | None, identity: str) -> str | None:
    """How the encoder in use is called, for a message; None where it is the one of this identity, or not known.

    Args:
        encoder: The one in use, or its identity.
        identity: Of the encoder that a file was made with.
    """
    if encoder is None:
        return None
    wanted, name = (encoder, "") if isinstance(encoder, str) else (encoder.identity, encoder.name)
    return None if wanted == identity else called(name, wanted)


def called(name: str, identity: str) -> str:
    """An encoder's name, if it has one, and the beginning of its identity."""
    short = identity[:_SHOWN]
    return f"{name!r} ({short})" if name else short
