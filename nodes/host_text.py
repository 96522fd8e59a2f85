"""ComfyUI's own text encoders as the core takes them, and their answers with something moved in them.

ComfyUI's layers work in place, so no gradient can go through them. The gradients are taken on the core's text tower,
filled with copies of the host's weights as they are at that moment, LoRA included; then the host itself encodes the
prompt, with the adapted weights standing in for its own during that one call. Chunks, token weights, clip skip, hooks
and textual inversions stay its business, and its weights are never written to. Moved input vectors go to the host
as a textual inversion's do, as vectors in place of token ids.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.clip_model
import comfy.model_management
import comfy.sdxl_clip
import torch
from torch.func import functional_call

from ..adapters.encoders import ClipFacts, text_model_from_state_dict
from ..adapters.errors import SteeringError
from ..adapters.steering import Change
from .host_tokens import Chunks, token_ids, usable, vectors_in, width_of, with_inputs

__all__ = ["HostText", "HostTower", "load_fully", "text_parts", "text_towers", "token_key"]

_PROJECTION = "text_projection.weight"


@dataclass(frozen=True)
class HostTower:
    """One of a host's text encoders, for the core.

    Attributes:
        name: "clip_l", "clip_g", or "clip_h" in SD2.x.
        model: The core's text tower on the text encoder's device, with float32 copies of the host's weights as they
            are now, LoRA included; H wide. It holds 0.5 GB for clip_l and 2.8 GB for clip_g.
        projection: (D, H) float32, the host's own, where it has a real one: clip_g's. SD1.5 checkpoints have none and
            ComfyUI leaves that memory as it was, so that of other towers is never read.
        clip_skip: Layers that the host leaves out at the end. norm_skipped: whether their states are normed then.
        tokenize: Text in the host's syntax to token ids (chunks, 77); where a textual inversion has a vector, the
            start token's id stands.
    """

    name: str
    model: torch.nn.Module
    projection: torch.Tensor | None
    clip_skip: int
    norm_skipped: bool
    tokenize: Callable[[str], torch.Tensor]


def text_towers(clip: Any) -> dict[str, HostTower]:
    """The text encoders of a CLIP by name, as the host would encode with them now.

    Args:
        clip: CLIP of SD1.x, SD2.x, SDXL, its refiner or the playground. Stays as it is; its weights are loaded.

    Returns:
        "clip_l" for SD1.x and the playground, "clip_h" for SD2.x, "clip_g" for SDXL's refiner, and for SDXL "clip_l"
        and "clip_g" in this order.

    Raises:
        SteeringError: the CLIP has another kind of text encoder, or is a steered one.
    """
    model = clip.cond_stage_model
    parts = text_parts(model)
    model.reset_clip_options()
    if clip.layer_idx is not None:
        model.set_clip_options({"layer": clip.layer_idx})
    clip.load_model()
    load_fully(model)
    return {name: _host_tower(clip, name, part) for name, part in parts.items()}


def text_parts(model: Any) -> dict[str, Any]:
    """ComfyUI's text models by name, in the order in which it joins them.

    Raises:
        SteeringError: it has another kind of text encoder, or is a steered one.
    """
    if getattr(type(model), "steers", False):
        raise SteeringError(
            "Cannot steer this CLIP: found one that was adapted before; expected a plain one. Connect the CLIP of the "
            "checkpoint, and join several tastes with Blend Tastes."
        )
    if isinstance(model, comfy.sdxl_clip.SDXLClipModel):
        parts = {"clip_l": model.clip_l, "clip_g": model.clip_g}
    else:
        name = str(getattr(model, "clip", ""))
        parts = {name: getattr(model, name, None)}
    if all(isinstance(getattr(part, "transformer", None), comfy.clip_model.CLIPTextModel) for part in parts.values()):
        return parts
    raise SteeringError(
        f"Cannot steer this CLIP: found {type(model).__name__}; expected CLIP text encoders as SD1.x, SD2.x and "
        "SDXL have them. Connect the CLIP of such a checkpoint."
    )


def token_key(model: Any, name: str) -> str:
    """Under which the host's tokenizer gives a tower's tokens."""
    return str(getattr(model, "clip_name", name.removeprefix("clip_")))


def load_fully(model: Any) -> None:
    """Have the host merge LoRAs into all weights; where memory is short, it leaves some of that for later."""
    if not getattr(model, "model_lowvram", False):
        return
    for loaded in list(comfy.model_management.current_loaded_models):
        if loaded.model is not None and loaded.model.model is model:
            comfy.model_management.load_models_gpu([loaded.model], force_full_load=True)


class HostText:
    """A text in one of the host's text encoders.

    Shapes: C chunks of T = 77 tokens, H width, D joint width.

    Attributes:
        name: The tower's, as in `HostTower`.
        width: H. layers: how many the tower has.
        weights: How many numbers the tower has.
        plain: What the host gives for it: token states (1, C·T, H), pooled vector (1, D), and what else it may give.
        ids: (C, T) token ids.
        vectors: (H,) by (chunk, place), where a textual inversion stands instead of a token.
        clip_skip: Layers that the host leaves out at the end. norm_skipped: whether their states are normed then.
        last_unnormed: Whether it takes the last layer's states without the final norm (SDXL at clip skip -1).
        projected: Whether the host gives the pooled vector projected by a projection of its own.
    """

    def __init__(self, name: str, part: Any, chunks: Chunks) -> None:
        self.name, self._part, self._chunks = name, part, chunks
        self._usable = usable(chunks, part)
        self.width, self.layers = width_of(part), int(part.num_layers)
        self.weights = sum(weight.numel() for weight in part.transformer.parameters())
        self.plain: tuple[Any, ...] = part.encode_token_weights(chunks)
        self.ids, self.vectors = token_ids(self._usable), vectors_in(self._usable)
        self.clip_skip, self.norm_skipped = _clip_skip(part), bool(part.layer_norm_hidden_state)
        self.last_unnormed = part.layer == "hidden" and not self.clip_skip and not self.norm_skipped
        self.projected = name == "clip_g" and bool(part.return_projected_pooled)

    def copied(self, device: torch.device) -> tuple[torch.nn.Module, torch.Tensor | None]:
        """The core's text tower and the host's projection, where it is real: see `HostTower`."""
        return _copied(self.name, self._part, device)

    def encode(self, change: Change | None) -> Any:
        """The host's token states (1, C·T, H), plain or with a change."""
        plain = self.plain[0]
        if change is None:
            return plain
        if change.delta is not None:
            # The host's token weights act on states in a straight line, so they act on what is added to them, too.
            weights = torch.tensor([[float(token[1]) for token in chunk] for chunk in self._usable])
            added = change.delta.cpu() * weights[..., None]
            return plain + added.reshape(1, -1, added.shape[-1]).to(plain)
        with torch.inference_mode():
            if change.inputs is not None and change.rows is not None:
                moved = with_inputs(self._usable, change.inputs.cpu(), change.rows.cpu())
                return self._part.encode_token_weights(moved)[0]
            assert change.weights is not None
            names = {f"part.transformer.{name}": value for name, value in change.weights.items()}
            return functional_call(_EncodeTokens(self._part), names, (self._chunks,))[0]


class _EncodeTokens(torch.nn.Module):
    """Makes `encode_token_weights` the module's call, which is what functional_call calls."""

    def __init__(self, part: torch.nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, chunks: Chunks) -> Any:
        return self.part.encode_token_weights(chunks)  # type: ignore[operator]


def _host_tower(clip: Any, name: str, part: Any) -> HostTower:
    device = comfy.model_management.text_encoder_device()

    def tokenize(text: str) -> torch.Tensor:
        chunks = clip.tokenize(text)[token_key(clip.cond_stage_model, name)]
        return token_ids(usable(chunks, part)).to(device)

    skipped, normed = _clip_skip(part), bool(part.layer_norm_hidden_state)
    return HostTower(name, *_copied(name, part, device), skipped, normed, tokenize)


def _copied(name: str, part: Any, device: torch.device) -> tuple[torch.nn.Module, torch.Tensor | None]:
    tower = part.transformer
    with torch.inference_mode(False):  # tensors made in that mode could never take part in gradients
        state = {
            key: value.detach().to(device, torch.float32, copy=True)
            for key, value in tower.state_dict().items()
            if key.startswith("text_model.") or (name == "clip_g" and key == _PROJECTION)
        }
        projection = state.pop(_PROJECTION, None)
        return text_model_from_state_dict(state, _facts(tower)), projection


def _facts(tower: Any) -> ClipFacts:
    layer = tower.text_model.encoder.layers[0]
    names = {function: name for name, function in comfy.clip_model.ACTIVATIONS.items()}
    return ClipFacts(activation=names[layer.mlp.activation], text_heads=layer.self_attn.heads)


def _clip_skip(part: Any) -> int:
    """Layers that the host leaves out at the end, as it is set at this moment."""
    if part.layer != "hidden":
        return 0
    count = int(part.num_layers)
    return count - 1 - (part.layer_idx % count)
