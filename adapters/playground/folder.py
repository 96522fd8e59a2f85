"""Where the playground's trained models lie, and what they are like.

The folder is a diffusers pipeline as Stable Diffusion 1.5's is: the text encoder is a plain `CLIPTextModel` without
projection. Beside it `clip/` holds what a full CLIP has besides: the image tower, both projections and the logit
scale. The text tower is stored once, in `text_encoder/`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FileFormatError

if TYPE_CHECKING:
    import torch

__all__ = ["SAMPLING", "Sampling", "clip_config", "load_clip_state", "playground_folder"]


@dataclass(frozen=True)
class Sampling:
    """Settings that suit a model: denoising steps, guidance scale (1 is off), width and height in pixels."""

    steps: int
    guidance: float
    size: int


SAMPLING = Sampling(steps=20, guidance=5.0, size=128)


def playground_folder() -> Path:
    """The folder of the playground's models, which come with the package.

    Raises:
        FileFormatError: it isn't there, for example because the installation left out the package's data.
    """
    folder = Path(__file__).resolve().parent / "models"
    if not (folder / "model_index.json").is_file():
        raise FileFormatError(
            f"Cannot load the playground: found no model_index.json in {folder}; expected the models that come with "
            "Palate. Install Palate again, or train them with `python install.py train` and "
            "`python -m palate.adapters.playground.training`."
        )
    return folder


def load_clip_state(folder: Path | None = None) -> dict[str, torch.Tensor]:
    """The full CLIP of a pipeline folder that holds `clip/` beside `text_encoder/`, in transformers' names.

    Args:
        folder: A folder laid out as the playground's; the playground's own when left out.
    """
    from safetensors.torch import load_file

    folder = folder or playground_folder()
    state = dict(load_file(folder / "clip" / "model.safetensors"))
    for name, tensor in load_file(folder / "text_encoder" / "model.safetensors").items():
        state[name if name.startswith("text_model.") else f"text_model.{name}"] = tensor
    return state


def clip_config(folder: Path | None = None) -> dict[str, Any]:
    """The fields of transformers' `CLIPConfig` for `load_clip_state`."""
    folder = folder or playground_folder()
    config: dict[str, Any] = json.loads((folder / "clip" / "config.json").read_text(encoding="utf-8"))
    return config
