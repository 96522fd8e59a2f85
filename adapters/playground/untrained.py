"""A pipeline folder like the playground's with random weights, for tests of loading, saving and steering."""

from __future__ import annotations

from pathlib import Path

from .training.models import new_models, write_folder

__all__ = ["make_untrained"]


def make_untrained(folder: Path, seed: int = 0) -> Path:
    """Write the folder; the same seed gives the same weights."""
    return write_folder(new_models(seed), Path(folder))
