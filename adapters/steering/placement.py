"""Where a pipeline's weights are while it works, and what is said when memory is not enough."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any, TypeVar

import torch

from ..errors import OutOfMemoryError, SteeringError

__all__ = [
    "OFFLOADS",
    "as_many_as_fit",
    "chosen_offload",
    "free_memory",
    "named_when_out_of_memory",
    "place",
    "ran_out_of_memory",
    "what_ran_out",
]

Result = TypeVar("Result")
OFFLOADS = ("auto", "none", "model", "sequential")
_TEXT = ("text_encoder", "text_encoder_2")
_SPARE = {"sd15": 2 << 30, "sdxl": 4 << 30}  # bytes for what is between the layers, at the model's own size
_SIGNS = ("out of memory", "can't allocate memory", "not enough memory")


def chosen_offload(offload: str, pipeline: Any, family: str, device: torch.device) -> str:
    """How a pipeline is placed: "none", "model" or "sequential".

    Args:
        offload: One of `OFFLOADS`. "auto" takes the fastest for which the GPU has room: all weights; one part at a
            time ("model", a second slower a picture); a layer at a time ("sequential", several times slower).
        pipeline: With its weights on the CPU.
        family: "sd15" or "sdxl".
        device: Where it computes; off a GPU there is nothing to be saved, and "auto" is "none".

    Raises:
        SteeringError: no such way.
    """
    if offload not in OFFLOADS:
        raise SteeringError(f"Cannot place the model: offload {offload!r}; expected one of {', '.join(OFFLOADS)}.")
    if offload != "auto":
        return offload
    if device.type != "cuda":
        return "none"
    free = torch.cuda.mem_get_info(device)[0] - _SPARE[family]
    sizes = [_bytes(part) for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    if sum(sizes) <= free:
        return "none"
    return "model" if max(sizes) <= free else "sequential"


def place(pipeline: Any, offload: str, device: torch.device) -> None:
    """Put a pipeline where it computes.

    With offloading, its text encoders are taken out of it and stay on the CPU: `TextConditioner` brings them to the
    device while they work. They are steered by weights and states of their own, which diffusers' hooks know nothing of.

    Args:
        pipeline: On the CPU.
        offload: "none", "model" or "sequential".
        device: Where it computes.

    Raises:
        SteeringError: accelerate, which moves the weights, isn't installed.
    """
    if offload == "none":
        pipeline.to(device)
        return
    for name in _TEXT:
        if getattr(pipeline, name, None) is not None:
            setattr(pipeline, name, None)
    try:
        if offload == "model":
            pipeline.enable_model_cpu_offload(device=device)
        else:
            pipeline.enable_sequential_cpu_offload(device=device)
            # Decoding in pieces costs seams nobody sees, and is what takes most memory here.
            pipeline.vae.tile_sample_min_size, pipeline.vae.tile_latent_min_size = 512, 64
    except ImportError as error:
        raise SteeringError(
            "Cannot keep the model off the GPU: accelerate is not installed; expected it for offloading. Install it "
            "with `pip install accelerate`, or choose offload 'none'."
        ) from error
    pipeline.vae.enable_tiling()  # only for pictures larger than the model's own size


def named_when_out_of_memory(what: str, advice: str, work: Callable[[], Result]) -> Result:
    """Do some work; where memory runs out, free what can be freed and say what to try.

    Args:
        what: What is tried, such as "generate 1024x1024 pixels".
        advice: What to do instead.
        work: Does it.

    Raises:
        OutOfMemoryError: memory ran out.
    """

    def refused(found: str) -> OutOfMemoryError:
        return OutOfMemoryError(f"Cannot {what}: memory ran out ({found}); expected more of it. {advice}")

    return as_many_as_fit(lambda _: work(), 1, refused)[0]


def as_many_as_fit(
    work: Callable[[int], Result], most: int, refused: Callable[[str], Exception], least: int = 1
) -> tuple[Result, int]:
    """Do some work on so many at a time; where memory runs out, once more on half as many.

    Args:
        work: Does all of it, this many at a time.
        most: To begin with, >= 1.
        refused: Makes an error of what ran out, where not even `least` fit.
        least: At a time.

    Returns:
        What came of it, and how many fitted.

    Raises:
        What `refused` made.
    """
    while True:
        try:
            return work(most), most
        except (MemoryError, RuntimeError) as error:
            if not ran_out_of_memory(error):
                raise
            found = what_ran_out(error)
        # Out here no traceback holds on to tensors: neither that of an error being handled nor of one that this stems
        # from.
        free_memory()
        if most <= least:
            raise refused(found)
        most //= 2


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory, the accelerator's or the processor's, ran out."""
    # accelerators' errors are RuntimeErrors of their own kinds; CPU memory's is a plain one with a known text
    return isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in _SIGNS)


def what_ran_out(error: BaseException) -> str:
    """What such an error says, in a few words."""
    return (str(error).splitlines() or ["none is left"])[0][:120].rstrip(".")


def free_memory() -> None:
    """Give back what nobody holds any more; not while an error is handled, whose traceback holds tensors."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _bytes(module: torch.nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in module.parameters())
