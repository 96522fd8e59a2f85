"""Memory before time: layers are computed again in the backward pass, but for what takes long and is small.

Source: Chen et al. 2016, Training Deep Nets with Sublinear Memory Cost, arXiv:1604.06174, with torch's selective way.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import torch
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

__all__ = ["ATTENTION", "Outcomes", "computed_again", "spare_memory"]

ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
_CONVOLUTION = torch.ops.aten.convolution.default
_MMAP_THRESHOLD, _PAGES = -3, 1 << 20  # of malloc.h; from so many bytes on memory is the system's own


def spare_memory(denoiser: Any) -> None:
    """Have a denoiser keep little for its backward pass: the outcome of attention and the blocks' inputs, on a
    processor; on a GPU, where attention is fast, the inputs alone. Gradients are the same.

    Args:
        denoiser: diffusers', where it will be trained.
    """
    if denoiser.device.type != "cpu":
        denoiser.enable_gradient_checkpointing()
        return
    denoiser.enable_gradient_checkpointing(computed_again)
    _let_go()


class Outcomes:
    """Which results of one block are kept rather than computed again: of its attention of pictures on themselves, which
    takes long on a processor, and of its first convolution; what comes out of the others is rarely needed.
    """

    def __init__(self) -> None:
        self._convolutions = {False: 0, True: 0}

    def __call__(self, context: Any, operation: Any, *given: Any, **_: Any) -> CheckpointPolicy:
        kept = False
        if operation is ATTENTION:
            query, key = given[:2]
            kept = query.shape[-2] <= key.shape[-2]
        elif operation is _CONVOLUTION:
            again = bool(context.is_recompute)
            self._convolutions[again] += 1
            kept = self._convolutions[again] == 1
        return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE


def computed_again(block: Any, *given: Any) -> Any:
    """What a block returns of what is given, with its layers computed again in the backward pass but for `Outcomes`."""
    contexts: Any = create_selective_checkpoint_contexts
    return checkpoint(block, *given, use_reentrant=False, context_fn=lambda: contexts(Outcomes()))


def _let_go() -> None:
    """Have glibc give large tensors back to the system as soon as they are freed, for the rest of this process.

    Left alone it keeps what was up to 32 MB for others that may fit: half a gigabyte that nobody uses, of a training at
    Stable Diffusion 1.5's shape.
    """
    if sys.platform != "linux":
        return
    try:
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, _PAGES)
    except (AttributeError, OSError):  # another C library
        return
