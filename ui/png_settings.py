"""What a picture was made with, in its PNG file: as A1111 writes it, for other tools, and in full as JSON."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["as_parameters", "png_with_text"]


def as_parameters(prompt: str, negative: str, settings: Sequence[tuple[str, object]]) -> str:
    """Return prompt, negative prompt, then one line of `Name: value`."""
    lines = [prompt]
    if negative:
        lines.append(f"Negative prompt: {negative}")
    lines.append(", ".join(f"{name}: {_quoted(str(value))}" for name, value in settings))
    return "\n".join(lines)


def png_with_text(image: Image.Image, parameters: str, said: str) -> bytes:
    """Return a PNG file with the settings as `parameters` and, in full, as JSON in `palate`."""
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    text.add_text("parameters", parameters)  # what Latin-1 lacks, Pillow writes as iTXt, which A1111 reads, too
    text.add_text("palate", said)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=text)
    return buffer.getvalue()


def _quoted(value: str) -> str:
    """A value with commas, colons or line breaks in quotes, as A1111 does."""
    return json.dumps(value, ensure_ascii=False) if any(mark in value for mark in ",:\n") else value
