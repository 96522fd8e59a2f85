"""What a picture of the gallery was made with, written into its PNG file."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from ..png_settings import as_parameters, png_with_text

if TYPE_CHECKING:
    from PIL import Image

    from .shot import Used

__all__ = ["parameters", "png_with_settings", "said_by"]


def parameters(used: Used) -> str:
    """Return the settings as A1111 writes them."""
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
    return as_parameters(used.worded, used.negative, settings)


def png_with_settings(image: Image.Image, used: Used) -> bytes:
    """Return a PNG file with the settings as `parameters` and, in full, as JSON in `palate`."""
    return png_with_text(image, parameters(used), said_by(used))


def said_by(used: Used) -> str:
    """Return all settings as JSON."""
    return json.dumps(asdict(used), ensure_ascii=False, sort_keys=True)
