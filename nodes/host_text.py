"""Steering inside ComfyUI's own text encoder.

ComfyUI's layers work in place, so no gradient can go through them. The gradients are taken on the core's text tower,
filled with copies of the host's weights as they are at that moment, LoRA included; then the host itself encodes the
prompt, with the adapted weights standing in for its own during that one call. Chunks, token weights, clip skip, hooks
and textual inversions stay the host's business, and its weights are never written to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import comfy.clip_model
import comfy.model_management
import torch
from torch.func import functional_call

from ..adapters.encoders import ClipFacts, text_model_from_state_dict
from ..adapters.errors import SteeringError

Weights = Mapping[str, torch.Tensor]
Encode = Callable[[Weights | None], torch.Tensor]
Steer = Callable[[torch.nn.Module, torch.Tensor, Encode], torch.Tensor]
"""(text tower, token ids (chunks, 77), the host's own encoder) -> token states in place of the host's."""


def encode_steered(clip: Any, text: str, steer: Steer) -> list[Any]:
    """Encode a text as the host does, with somebody's say in the token states.

    Args:
        clip: CLIP with a single CLIP text encoder, as SD1.x, SD2.x and the playground have it.
        text: The prompt, in the host's syntax.
        steer: Called once for every set of weights that the host encodes with: once, or once per LoRA keyframe.

    Returns:
        CONDITIONING, as the host's own text node gives it.

    Raises:
        SteeringError: the CLIP has another kind of text encoder.
    """
    tokens = clip.tokenize(text)
    _tower(clip.cond_stage_model)
    stand_in = clip.clone()
    # All of it, so that the host has merged LoRAs into the weights that are read below.
    comfy.model_management.load_models_gpu([stand_in.patcher], force_full_load=True)
    stand_in.cond_stage_model = _Steered(clip.cond_stage_model, steer)
    conditioning: list[Any] = stand_in.encode_from_tokens_scheduled(tokens)
    return conditioning


class _Steered:
    """Stands in for the host's text encoder: steers what it encodes, and passes on all else."""

    def __init__(self, model: Any, steer: Steer) -> None:
        self._model = model
        self._steer = steer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def encode_token_weights(self, tokens: Mapping[str, Any]) -> Any:
        model, tower = self._model, _tower(self._model)
        device = comfy.model_management.text_encoder_device()
        plain = model.encode_token_weights(tokens)
        call = _EncodeTokens(model)

        def encode(weights: Weights | None) -> torch.Tensor:
            if weights is None:
                return plain[0]  # type: ignore[no-any-return]
            names = {f"model.{model.clip}.transformer.{name}": value for name, value in weights.items()}
            with torch.inference_mode():
                return functional_call(call, names, (tokens,))[0]  # type: ignore[no-any-return]

        with torch.inference_mode(False):
            state = {name: value.detach().to(device, copy=True) for name, value in tower.state_dict().items()}
            text_model = text_model_from_state_dict(state, _facts(tower))
            steered = self._steer(text_model, token_ids(tokens[model.clip_name]).to(device), encode)
        return (steered.to(plain[0]), *plain[1:])


class _EncodeTokens(torch.nn.Module):
    """Makes `encode_token_weights` the module's call, which is what functional_call calls."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Mapping[str, Any]) -> Any:
        return self.model.encode_token_weights(tokens)  # type: ignore[operator]


def token_ids(chunks: list[list[tuple[Any, ...]]]) -> torch.Tensor:
    """The host's weighted tokens as ids (chunks, length).

    Vectors of a textual inversion have no id: they are left out and the chunk is filled up with its last token. They
    still take part when the host encodes.
    """
    rows = []
    for chunk in chunks:
        ids = [int(token[0]) for token in chunk if isinstance(token[0], int)]
        rows.append(ids + [ids[-1]] * (len(chunk) - len(ids)))
    return torch.tensor(rows, dtype=torch.long)


def _tower(model: Any) -> Any:
    tower = getattr(getattr(model, getattr(model, "clip", ""), None), "transformer", None)
    if not isinstance(tower, comfy.clip_model.CLIPTextModel):
        raise SteeringError(
            f"Cannot steer this CLIP: found {type(model).__name__}; expected a single CLIP text encoder, as SD1.x and "
            "SD2.x have it. Connect the CLIP of such a checkpoint."
        )
    return tower


def _facts(tower: Any) -> ClipFacts:
    layer = tower.text_model.encoder.layers[0]
    names = {function: name for name, function in comfy.clip_model.ACTIVATIONS.items()}
    return ClipFacts(activation=names[layer.mlp.activation], text_heads=layer.self_attn.heads)
