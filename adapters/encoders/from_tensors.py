"""CLIP's towers from tensors: sizes are read off the shapes, and the weights are shared with whoever holds them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from ..errors import EncoderError, ShapeError
from .facts import ClipFacts
from .layouts import FITTING_FILES, canonical_state, has_image_tower
from .towers import ImageTower, TextTower

__all__ = ["image_tower_from_state_dict", "text_model_from_state_dict"]

_Tower = TypeVar("_Tower", bound=nn.Module)


def image_tower_from_state_dict(state: Mapping[str, Tensor], facts: ClipFacts) -> ImageTower:
    """Build the image tower of a canonical state; weights are shared with it, not copied.

    Raises:
        EncoderError: there is no image tower, or tensors are missing or don't fit each other.
    """
    if not has_image_tower(state):
        lacking = "an image tower" if "visual_projection.weight" in state else "a projected image tower"
        raise EncoderError(f"Cannot encode images: found a CLIP without {lacking}; expected one. {FITTING_FILES}.")
    patches = state["vision_model.embeddings.patch_embedding.weight"]
    positions = state["vision_model.embeddings.position_embedding.weight"].shape[0]
    layers, inner = _depth(state, "vision_model.")
    joint, width = state["visual_projection.weight"].shape
    with torch.device("meta"):
        tower = ImageTower(patches.shape[-1], positions, layers, width, inner, joint, facts.settled(state))
    return _fill(tower, state)


def text_model_from_state_dict(state_dict: Mapping[str, Tensor], facts: ClipFacts | None = None) -> TextTower:
    """Build a differentiable text tower from a state dict of any layout, such as ComfyUI's `transformer.state_dict()`.

    Its parameter names are `text_model.…`, exactly those of ComfyUI's `comfy.clip_model.CLIPTextModel`, so that weights
    adapted on it go back into the host's module by name (`adapters.steering.adapt_text_weights`).

    Args:
        state_dict: Tensors; shared, not copied. A projection in it is not used.
        facts: Activation, heads and end token; None takes the standard for the shapes. ComfyUI runs every CLIP-L with
            quick_gelu and CLIP-H and bigG with gelu, which is the standard here too; a custom
            `clip_l_model_config` must be passed on (`ClipFacts(activation=…, text_heads=…)`).

    Raises:
        EncoderError: it holds no text tower, or tensors are missing or don't fit each other.
    """
    state = canonical_state(state_dict)
    tokens = state.get("text_model.embeddings.token_embedding.weight")
    positions = state.get("text_model.embeddings.position_embedding.weight")
    if tokens is None or positions is None:
        raise EncoderError(f"Cannot encode text: found a CLIP without a text tower; expected one. {FITTING_FILES}.")
    layers, inner = _depth(state, "text_model.")
    settled = (facts or ClipFacts()).settled(state)
    with torch.device("meta"):
        tower = TextTower(tokens.shape[0], positions.shape[0], layers, tokens.shape[1], inner, settled)
    return _fill(tower, state)


def _depth(state: Mapping[str, Tensor], tower: str) -> tuple[int, int]:
    """Number of layers, and width inside the first one's MLP."""
    start = f"{tower}encoder.layers."
    numbers = {int(name.removeprefix(start).split(".", 1)[0]) for name in state if name.startswith(start)}
    first = state.get(f"{start}0.mlp.fc1.weight")
    if first is None or numbers != set(range(len(numbers))):
        raise EncoderError(f"Cannot use this CLIP: found a gap in {start}*; expected all layers. Get the file again.")
    return len(numbers), int(first.shape[0])


def _fill(tower: _Tower, state: Mapping[str, Tensor]) -> _Tower:
    wanted = tower.state_dict()
    missing = sorted(name for name in wanted if name not in state)
    if missing:
        raise EncoderError(f"Cannot use this CLIP: {missing[0]} and {len(missing) - 1} more are missing. Get it again.")
    for name, tensor in wanted.items():
        if state[name].shape != tensor.shape:
            raise ShapeError(
                f"Cannot use this CLIP: {name} is {tuple(state[name].shape)}; expected {tuple(tensor.shape)}. "
                "Get the file again."
            )
    floats = {name: state[name].detach().to(torch.float32).contiguous() for name in wanted}
    tower.load_state_dict(floats, assign=True)
    return tower.eval().requires_grad_(False)
