"""What a picture was made with, written into its PNG file as other tools read it."""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

    from .gallery import Used

__all__ = ["parameters", "png_with_settings", "said_by"]


def parameters(used: Used) -> str:
    """Return the settings as A1111 writes them: prompt, negative prompt, then one line of `Name: value`."""
    tastes = " + ".join(f"{weight:g} {source.partition(':')[2]}" for source, weight in used.tastes)
    settings: list[tuple[str, object]] = [
        ("Steps", used.steps),
        ("CFG scale", f"{used.guidance:g}"),
        ("Seed", used.seed),
        ("Size", f"{used.width}x{used.height}"),
        ("Model", used.model),
    ]
    if used.strength > 0:
        settings += [
            ("Palate strength", f"{used.strength:g}"),
            ("Palate tastes", tastes),
            ("Palate method", used.method),
            ("Palate objective", used.objective),
        ]
    lines = [used.prompt]
    if used.negative:
        lines.append(f"Negative prompt: {used.negative}")
    lines.append(", ".join(f"{name}: {_quoted(str(value))}" for name, value in settings))
    return "\n".join(lines)


def png_with_settings(image: Image.Image, used: Used) -> bytes:
    """Return a PNG file with the settings as `parameters` and, in full, as JSON in `palate`."""
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    text.add_text("parameters", parameters(used))  # what Latin-1 lacks, Pillow writes as iTXt, which A1111 reads, too
    text.add_text("palate", said_by(used))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=text)
    return buffer.getvalue()


def said_by(used: Used) -> str:
    """Return all settings as JSON."""
    return json.dumps(asdict(used), ensure_ascii=False, sort_keys=True)


def _quoted(value: str) -> str:
    """A value with commas, colons or line breaks in quotes, as A1111 does."""
    return json.dumps(value, ensure_ascii=False) if any(mark in value for mark in ",:\n") else value
