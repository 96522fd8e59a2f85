"""What a stopped training, and what its pictures were made into, is known again by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from ..places import typed_path
from ..playground import playground_folder
from ..steering.joint_files import JointFiles
from .pairs import LabelledPair

__all__ = ["identity_of", "prepared_for"]


def identity_of(model: str | PathLike[str], *parts: Sequence[LabelledPair]) -> str:
    """Return what a stopped training is known again by: the model, and the pictures and prompts in their order."""
    named = [[(pair.chosen.name, pair.rejected.name, pair.prompt) for pair in pairs] for pairs in parts]
    beside = [str(path) for path in _beside(model)]
    return hashlib.sha256(json.dumps([str(model), named, *beside]).encode()).hexdigest()


def prepared_for(model: str | PathLike[str], precision: str) -> str:
    """Return what latents and prompts hang on beside their pictures: the model's files, and the precision.

    Of each file the name, size and time: one that was replaced in its place is another model.
    """
    path = playground_folder() if str(model) == "playground" else typed_path(model)
    files = sorted(path.rglob("*")) if path.is_dir() else [path, *_beside(model)]
    known = [(file.name, file.stat()) for file in files if file.is_file()]
    about = json.dumps([str(model), precision, [(name, about.st_size, about.st_mtime_ns) for name, about in known]])
    return hashlib.sha256(about.encode()).hexdigest()


def _beside(model: str | PathLike[str]) -> list[Path]:
    """Files of a model's other parts."""
    return model.given if isinstance(model, JointFiles) else []
