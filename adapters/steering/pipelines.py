"""Diffusers pipelines by what a person writes: "playground", a folder, a checkpoint file, a name on the hub."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import SteeringError
from ..places import named_on_hub, not_there, typed_path
from .prompt_tower import PromptTower
from .settings import TOWERS

__all__ = [
    "Defaults",
    "Loaded",
    "all_in",
    "load_pipeline",
    "named_when_not_whole",
    "pipeline_kind",
    "prompt_towers",
    "weights_in",
]

EXPECTED = (
    "a diffusers pipeline of Stable Diffusion 1.5, 2.1 or XL, or a single-file checkpoint (.safetensors) of 1.5 or XL"
)
_PARTS = ("unet", "vae", "text_encoder", "text_encoder_2")


@dataclass(frozen=True)
class Defaults:
    """What a model is sampled with where nothing else is said.

    Attributes:
        steps: Denoising steps.
        guidance: Classifier-free guidance scale; 1 is off.
        size: Width and height in pixels.
    """

    steps: int
    guidance: float
    size: int


@dataclass(frozen=True)
class Loaded:
    """A pipeline on the CPU.

    Attributes:
        pipeline: diffusers' StableDiffusionPipeline or StableDiffusionXLPipeline.
        name: For people.
        family: "sd15" (all that have one text encoder) or "sdxl".
        defaults: How it is sampled.
        clip: What `load_encoder` takes for the CLIP that came with it, or None.
    """

    pipeline: Any
    name: str
    family: str
    defaults: Defaults
    clip: str | None = None


def load_pipeline(model: str | Path, dtype: torch.dtype) -> Loaded:
    """Load a pipeline onto the CPU.

    Args:
        model: "playground", a folder, a `.safetensors` file, or a name on the hub (offline: from its cache).
        dtype: Of its weights.

    Raises:
        SteeringError: there is nothing, or it is no such pipeline; it says what was found.
    """
    if str(model) == "playground":
        from ..playground import SAMPLING, playground_folder

        found = _from_folder(playground_folder(), dtype)
        defaults = Defaults(SAMPLING.steps, SAMPLING.guidance, SAMPLING.size)
        return Loaded(found.pipeline, "playground", found.family, defaults, "playground")
    path = typed_path(model)
    if os.path.isfile(path):
        from .single_file import load_single_file

        pipeline, family = load_single_file(path, dtype)
        return _loaded(pipeline, path.stem, family, dtype)
    if os.path.isdir(path):
        return _from_folder(path, dtype)
    if named_on_hub(str(model)):
        return _from_folder(str(model), dtype)
    raise SteeringError(
        f"Cannot load the model {path.name!r}: {not_there(str(model))}; expected {EXPECTED}. Give its path, or "
        "'playground'."
    )


def prompt_towers(pipeline: Any) -> tuple[PromptTower, ...]:
    """The text towers of a pipeline, in the order of its conditioning, without their CLIPs."""
    parts = [(pipeline.tokenizer, pipeline.text_encoder)]
    if getattr(pipeline, "text_encoder_2", None) is not None:
        parts.append((pipeline.tokenizer_2, pipeline.text_encoder_2))
    return tuple(PromptTower(name, *part) for name, part in zip(TOWERS, parts, strict=False))


def pipeline_kind(model: str | Path) -> str:
    """Return the class that a folder's model_index.json names; "" for what is no such folder."""
    import diffusers

    local = os.path.isdir(typed_path(model))
    if str(model) == "playground" or not (local or named_on_hub(str(model))):
        return ""
    where = typed_path(model) if local else model
    try:
        return str(diffusers.DiffusionPipeline.load_config(str(where)).get("_class_name", ""))
    except Exception:  # diffusers raises many kinds; `load_pipeline` says better what is the matter
        return ""


@contextlib.contextmanager
def named_when_not_whole(model: str | Path, expected: str) -> Iterator[None]:
    """Name the model that doesn't load.

    Args:
        model: For people. expected: The pipeline's class.

    Raises:
        SteeringError: diffusers or transformers raised something.
    """
    try:
        yield
    except Exception as error:  # they raise many kinds for what isn't whole
        raise SteeringError(
            f"Cannot load the model {Path(model).name!r}: {error}; expected a whole {expected} as diffusers saves it. "
            "Get it again, or give another."
        ) from error


def weights_in(dtype: torch.dtype) -> dict[str, torch.dtype]:
    """What tells diffusers to load weights in a precision."""
    from diffusers.utils import deprecation_utils

    return {"dtype" if hasattr(deprecation_utils, "_resolve_dtype") else "torch_dtype": dtype}  # renamed about 0.40


def all_in(dtype: torch.dtype, parts: Iterable[Any]) -> None:
    """Convert the networks among some parts: transformers takes each file's own precision."""
    for part in parts:
        if isinstance(part, torch.nn.Module) and next(part.parameters()).dtype != dtype:
            part.to(dtype)


def _from_folder(folder: str | Path, dtype: torch.dtype) -> Loaded:
    import diffusers

    name = Path(folder).name
    try:
        index = diffusers.DiffusionPipeline.load_config(str(folder))
        family = _family(index, name)
        if family == "sdxl":
            pipeline = diffusers.StableDiffusionXLPipeline.from_pretrained(
                str(folder), feature_extractor=None, image_encoder=None, add_watermarker=False
            )
        else:
            pipeline = diffusers.StableDiffusionPipeline.from_pretrained(
                str(folder), safety_checker=None, feature_extractor=None, requires_safety_checker=False
            )
    except SteeringError:
        raise
    except Exception as error:  # diffusers raises many kinds for what isn't a pipeline
        raise SteeringError(
            f"Cannot load the model {name!r}: {error}; expected {EXPECTED}. Give another, or 'playground'."
        ) from error
    loaded = _loaded(pipeline, name, family, dtype)
    if not (Path(folder) / "clip").is_dir():
        return loaded
    return Loaded(loaded.pipeline, loaded.name, loaded.family, loaded.defaults, str(folder))


def _family(index: dict[str, Any], name: str) -> str:
    """By the parts that a folder's model_index.json lists; Stable Diffusion's pipelines for pictures and masks, too."""
    kind = str(index.get("_class_name", ""))
    if kind.startswith("StableDiffusionXL") and (index.get("text_encoder") or [None])[0] is not None:
        return "sdxl"
    if kind.startswith("StableDiffusion") and not kind.startswith(("StableDiffusion3", "StableDiffusionXL")):
        return "sd15"
    found = "the refiner of SDXL" if kind.startswith("StableDiffusionXL") else f"a {kind or 'folder without a kind'}"
    raise SteeringError(f"Cannot load the model {name!r}: found {found}; expected {EXPECTED}. Give another.")


def _loaded(pipeline: Any, name: str, family: str, dtype: torch.dtype) -> Loaded:
    pipeline.set_progress_bar_config(disable=True)
    for part in (getattr(pipeline, part, None) for part in _PARTS):
        # Here rather than while loading: transformers 5 takes each file's own precision, diffusers float32.
        if part is not None and part.dtype != dtype:
            part.to(dtype)
    own = int(pipeline.unet.config.sample_size) * int(pipeline.vae_scale_factor)
    return Loaded(pipeline, name, family, Defaults(30, 5.0 if family == "sdxl" else 7.5, own))
