"""What can be trained, from the host's folders, and which files go with a model of SD3 or Flux."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import comfy.sd
import folder_paths
from comfy_api.v0_0_2 import io

from ..adapters.errors import SteeringError
from ..adapters.steering.joint_files import joint_files
from ..adapters.steering.joint_parts import joint_family
from .sockets import advanced

__all__ = ["PARTS", "PLAYGROUND", "model_and_files", "part_inputs", "trainable"]

PLAYGROUND, _AUTO = "playground", "auto"
_CHECKPOINTS, _DENOISERS, _DIFFUSERS = "checkpoints", "diffusion_models", "diffusers"
_ENCODERS, _VAES = "text_encoders", "vae"
# Inputs that name a part of SD3 or Flux: the folder that it is in, and what it is.
PARTS = {
    "clip_l": (_ENCODERS, "SD3's and Flux's CLIP-L"),
    "clip_g": (_ENCODERS, "SD3's CLIP-G"),
    "t5xxl": (_ENCODERS, "SD3's and Flux's T5"),
    "vae": (_VAES, "SD3's and Flux's VAE"),
}


def trainable() -> list[str]:
    """Names of all that is offered: checkpoints, denoisers of SD3 and Flux, diffusers' folders."""
    denoisers = [name for name in _names(_DENOISERS) if joint_family(_path(_DENOISERS, name))]
    return [
        PLAYGROUND,
        *folder_paths.get_filename_list(_CHECKPOINTS),
        *(f"{_DENOISERS}/{name}" for name in denoisers),
        *_pipelines(),
    ]


def part_inputs() -> list[Any]:
    """Inputs by which parts are chosen that the model's file lacks."""
    return [
        advanced(
            io.Combo,
            name,
            options=[_AUTO, *_names(folder)],
            default=_AUTO,
            tooltip=f"{what}, where the model's file lacks it. auto takes the one in models/{folder} that fits.",
        )
        for name, (folder, what) in PARTS.items()
    ]


def model_and_files(model: str, chosen: Mapping[str, str]) -> tuple[str, list[Path], str]:
    """Find what a training is told: the model, files beside it, and, for people, which of them were taken.

    Args:
        model: Of `trainable`. chosen: By the names in `PARTS`.

    Raises:
        SteeringError: a part is missing, or was chosen that doesn't fit.
    """
    given = [_path(PARTS[part][0], name) for part, name in chosen.items() if name != _AUTO]
    path = _pipelines().get(model) or (PLAYGROUND if model == PLAYGROUND else str(_file(model)))
    offered = (_path(folder, name) for folder in (_ENCODERS, _VAES) for name in _names(folder))
    tokenizer = Path(comfy.sd.__file__).parent / "text_encoders" / "t5_tokenizer" / "tokenizer.json"
    files = None if model == PLAYGROUND else joint_files(path, given, offered, tokenizer)
    if files is not None:
        return path, files.given, files.said
    if given:
        raise SteeringError(
            f"Cannot train {model!r} with {given[0].name}: it has its parts in it; expected a file of SD3 or Flux. Set "
            f"{', '.join(PARTS)} to {_AUTO}."
        )
    return path, [], ""


def _pipelines() -> dict[str, str]:
    """Diffusers' folders in the host's, by the names that they are offered under."""
    found = {}
    for place in map(Path, folder_paths.get_folder_paths(_DIFFUSERS)):
        for index in sorted(place.glob("*/model_index.json")):
            found.setdefault(f"{_DIFFUSERS}/{index.parent.name}", str(index.parent))
    return found


def _file(model: str) -> Path:
    if model in folder_paths.get_filename_list(_CHECKPOINTS):
        return _path(_CHECKPOINTS, model)
    return _path(_DENOISERS, model.removeprefix(f"{_DENOISERS}/"))


def _names(folder: str) -> Iterable[str]:
    return [name for name in folder_paths.get_filename_list(folder) if name.endswith(".safetensors")]


def _path(folder: str, name: str) -> Path:
    return Path(folder_paths.get_full_path_or_raise(folder, name))
