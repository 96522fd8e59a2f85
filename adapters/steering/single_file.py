"""Single-file checkpoints of Stable Diffusion 1.5 and SDXL as diffusers pipelines, without the hub."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from ..errors import SteeringError
from .architecture import write_configuration
from .checkpoint_kind import checkpoint_family, read_shapes

__all__ = ["load_single_file"]


def load_single_file(path: Path, dtype: torch.dtype) -> tuple[Any, str]:
    """Load a checkpoint onto the CPU.

    diffusers would fetch the configuration and the tokenizers from the hub; it is given them instead.

    Args:
        path: A `.safetensors` file, as original checkpoints are laid out.
        dtype: Of its weights.

    Returns:
        The pipeline, and "sd15" or "sdxl".

    Raises:
        SteeringError: it is something else (it says what was found), or tensors are missing.
    """
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

    shapes = read_shapes(path)
    family = checkpoint_family(path, shapes)
    more = (
        {"add_watermarker": False} if family == "sdxl" else {"safety_checker": None, "requires_safety_checker": False}
    )
    kind = StableDiffusionXLPipeline if family == "sdxl" else StableDiffusionPipeline
    try:
        with tempfile.TemporaryDirectory(prefix="palate-") as folder:
            write_configuration(Path(folder), family, shapes)
            pipeline = kind.from_single_file(str(path), config=folder, torch_dtype=dtype, local_files_only=True, **more)
        _require_whole(pipeline)
    except Exception as error:  # diffusers raises many kinds for tensors that are missing or don't fit
        raise SteeringError(
            f"Cannot load the model {path.name!r}: {type(error).__name__}: {error}; expected all parts of a "
            f"{'Stable Diffusion XL' if family == 'sdxl' else 'Stable Diffusion 1.5'} checkpoint. Get the file again."
        ) from error
    return pipeline, family


def _require_whole(pipeline: Any) -> None:
    """Weights that a file lacks stay without values; refuse before the first picture does."""
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            for name, tensor in part.named_parameters():
                if tensor.is_meta:
                    raise ValueError(f"{name} of {type(part).__name__} is missing")
