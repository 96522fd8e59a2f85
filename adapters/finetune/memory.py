"""What a training will take of memory, from the model's layers alone: no weight is read before it is known to fit.

The denoiser is built without weights (torch's meta device) and run forwards and backwards; what it keeps for the
backward pass is counted tensor by tensor.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from ..errors import FineTuneError
from ..places import typed_path
from ..steering.architecture import write_configuration
from ..steering.checkpoint_kind import UNET, checkpoint_family, read_shapes
from ..steering.joint_configuration import transformer_of
from ..steering.joint_files import JointFiles
from .activations import UNET_CLASS, class_of, kept_for_backward, without_weights
from .frozen import hold_in_bytes
from .lora import add_lora
from .losses import REFERENCE_FREE
from .names import FROZEN
from .settings import TrainSettings

__all__ = ["Need", "denoiser_of", "free_bytes", "need_of", "require_memory", "side_of", "text_of"]

_MOMENTS = {"adamw": 8.0, "adamw8bit": 2.0, "adafactor": 0.2}  # bytes of an optimiser for each trained weight
_SPARE = {"cuda": 1 << 30, "cpu": 1 << 28}  # libraries and what is between two layers
_DENOISERS = ("unet", "transformer")  # folders of a pipeline
_GROWTH = 1.15  # allocators keep more than is asked for


@dataclass(frozen=True)
class Need:
    """Bytes that a training takes where it computes.

    Attributes:
        weights: Of the denoiser, and of copies of it. trained: Of gradients, moments and averages of what is trained.
        activations: That are kept for the backward pass, at their most.
        others: Text encoders and autoencoder where they are in the same memory, and what is always there.
        loading: At the most before the first step, with all of it.
    """

    weights: int
    trained: int
    activations: int
    others: int
    loading: int = 0

    @property
    def total(self) -> int:
        """At the most, with what allocators keep beside it."""
        return max(int(_GROWTH * (self.weights + self.trained + self.activations)) + self.others, self.loading)


def denoiser_of(model: str | os.PathLike[str]) -> tuple[dict[str, Any], int] | None:
    """Return the configuration of a model's denoiser and the bytes of its other parts, from headers alone.

    Args:
        model: As `Generator` takes it. Of a name on the hub nothing is known before it is loaded: None; the same for
            what is no such model, which loading will say better.
    """
    if str(model) == "playground":
        from ..playground import playground_folder

        return denoiser_of(playground_folder())
    if isinstance(model, JointFiles):  # whose text encoders have gone before the denoiser comes
        return transformer_of(model.denoiser), 4 * model.vae.count
    path = typed_path(model)
    try:
        if path.is_file():
            shapes = read_shapes(path)
            family = checkpoint_family(path, shapes)
            others = sum(4 * torch.Size(shape).numel() for name, shape in shapes.items() if not name.startswith(UNET))
            with tempfile.TemporaryDirectory(prefix="palate-") as folder:
                write_configuration(Path(folder), family, shapes)
                config = json.loads((Path(folder) / "unet" / "config.json").read_text(encoding="utf-8"))
        else:
            part = next((name for name in _DENOISERS if (path / name / "config.json").is_file()), _DENOISERS[0])
            config = json.loads((path / part / "config.json").read_text(encoding="utf-8"))
            files = [file for file in path.glob("*/*.safetensors") if file.parent.name != part]
            others = sum(file.stat().st_size for file in files)
    except (OSError, ValueError):
        return None
    return dict(config), others


def text_of(model: str | os.PathLike[str]) -> int | None:
    """Return how many numbers the text encoders have that have gone when the denoiser is read, a tensor at a time; None
    where a model is loaded as a whole."""
    if not isinstance(model, JointFiles):
        return None
    return sum(part.count for part in model.parts if part not in (model.denoiser, model.vae))


def side_of(config: dict[str, Any]) -> int:
    """Return the side of a denoiser's own pictures in pixels; Flux's configuration doesn't say it."""
    return 8 * int(config.get("sample_size") or (64 if class_of(config) == UNET_CLASS else 128))


def need_of(
    config: dict[str, Any], settings: TrainSettings, size: int, device: str, others: int = 0, text: int | None = None
) -> Need:
    """Estimate what a training takes.

    Args:
        config: Of diffusers' UNet2DConditionModel, SD3Transformer2DModel or FluxTransformer2DModel.
        settings: Settled.
        size: Side of the pictures in pixels.
        device: "cuda" or "cpu".
        others: Bytes of the pipeline's other parts that are in the same memory.
        text: As `text_of` says.
    """
    half, full = settings.precision == "bfloat16", settings.full
    dtype = torch.bfloat16 if half else torch.float32
    rank = 0 if full else settings.rank or 4
    said = json.dumps(dict(config), sort_keys=True, default=list)
    again = bool(settings.checkpointing), device == "cpu"  # as `spare_memory` does
    weights, whole, trained, of_a_pair = _counted(said, rank, size, dtype, *again, settings.frozen)
    of_each = 4.0 + _MOMENTS[settings.optimizer]
    of_each += 0.0 if full else 4.0  # a LoRA's own weights, in float32
    copies = 0 if settings.ema is None else 1
    copies += 2 if settings.loss == "adaptive_dpo" else 0
    later = full or bool(settings.stages)
    copies += 1 if later and settings.loss not in REFERENCE_FREE and not settings.fixed_noise else 0
    loading = 0  # elsewhere a model is loaded before it comes here
    if device == "cpu" and text is not None:
        loading = dtype.itemsize * text + others
    elif device == "cpu":  # UNets come in full precision, as they lie on the disk
        loading = (4 if class_of(config) == UNET_CLASS else dtype.itemsize) * whole + others
    return Need(
        2 * weights if full and half else weights,
        int(trained * (of_each + 4.0 * copies)),
        of_a_pair * (settings.batch or 1),
        others + _SPARE[device],
        loading,
    )


@lru_cache(maxsize=32)
def _counted(
    config: str, rank: int, size: int, dtype: torch.dtype, checkpointing: bool, outcomes: bool, frozen: str | None
) -> tuple[int, int, int, int]:
    """Bytes of weights, their number, that of trained ones, and the bytes that a pair keeps; rank 0 trains all."""
    denoiser = without_weights(json.loads(config)).to(dtype)
    whole = sum(parameter.numel() for parameter in denoiser.parameters())
    if frozen:
        hold_in_bytes(denoiser)
    weights = sum(value.nbytes for value in (*denoiser.parameters(), *denoiser.buffers()))
    parameters = add_lora(denoiser, rank) if rank else list(denoiser.parameters())
    trained = sum(parameter.numel() for parameter in parameters)
    return weights, whole, trained, kept_for_backward(denoiser, 2, size, dtype, checkpointing, outcomes)


def require_memory(
    config: dict[str, Any],
    settings: TrainSettings,
    size: int,
    device: torch.device,
    others: int = 0,
    text: int | None = None,
) -> int | None:
    """Refuse a training that won't fit before anything of it is loaded.

    Args:
        config, settings, size, others, text: As `need_of` takes them. device: Where it would be trained.

    Returns:
        How many pairs of a batch fit at once, the whole batch or a half of it, a quarter, ... down to 1; None where
        nobody knows what is free.

    Raises:
        FineTuneError: not one fits; it says what would.
    """
    kind = "cuda" if device.type == "cuda" else "cpu"
    free = free_bytes(device)
    if free is None:
        return None
    at_once = settings.batch or 1
    while (need := need_of(config, replace(settings, batch=at_once), size, kind, others, text)).total > free:
        if at_once == 1:
            break
        at_once //= 2
    else:
        return at_once
    for changed, said in _smaller(replace(settings, batch=1), size):
        other = need_of(config, changed, changed.size or size, kind, others, text)
        if other.total <= free:
            advice = f"It fits with {said} ({_gigabytes(other.total)})."
            break
    else:
        advice = "Nothing smaller fits either: train a smaller model, or where there is more memory."
    loading = f", all while it is loaded {_gigabytes(need.loading)}" if need.loading == need.total else ""
    raise FineTuneError(
        f"Cannot train: even one pair at a time takes about {_gigabytes(need.total)} of memory (weights "
        f"{_gigabytes(need.weights)}, what is trained {_gigabytes(need.trained)}, activations "
        f"{_gigabytes(need.activations)}{loading}); found {_gigabytes(free)} free. {advice}"
    )


def free_bytes(device: torch.device) -> int | None:
    """Memory that can be taken where a device computes; None where nobody knows."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    try:  # no Linux: what there is in all, less what systems take
        return int(0.7 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return None


def _smaller(settings: TrainSettings, size: int) -> Iterator[tuple[TrainSettings, str]]:
    """Settings that take less and less, each with all before it."""
    said: list[str] = []
    if not settings.checkpointing:
        settings = replace(settings, checkpointing=True)
        said.append("gradient checkpointing")
        yield settings, " and ".join(said)
    if not (settings.full or settings.frozen):
        settings = replace(settings, frozen=FROZEN[0])
        said.append("the weights that aren't trained in a byte each (frozen int8)")
        yield settings, " and ".join(said)
    if settings.full:
        if settings.optimizer == "adamw":
            settings = replace(settings, optimizer="adafactor")
            said = [*said, "optimizer adafactor"]
            yield settings, " and ".join(said)
        settings = replace(settings, full=False)
        said = [*said, "a LoRA in the place of all weights"]
        yield settings, " and ".join(said)
    if size >= 512:
        said = [*said, f"pictures of {size // 2} pixels"]
        yield replace(settings, size=size // 2), " and ".join(said)


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
