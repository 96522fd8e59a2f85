"""Steering inside ComfyUI's own text encoder.

ComfyUI's layers work in place, so no gradient can go through them. The gradients are taken on the core's text tower,
filled with copies of the host's weights as they are at that moment, LoRA included; then the host itself encodes the
prompt, with the adapted weights standing in for its own during that one call. Chunks, token weights, clip skip, hooks
and textual inversions stay its business, and its weights are never written to. Moved input vectors go to the host
as a textual inversion's do, as vectors in place of token ids.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping
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

Chunks = list[list[tuple[Any, ...]]]
Encode = Callable[[Change | None], torch.Tensor]
_PROJECTION = "text_projection.weight"


@dataclass(frozen=True)
class HostTower:
    """One of a host's text encoders, for the core.

    Attributes:
        name: "clip_l", "clip_g", or "clip_h" in SD2.x.
        model: The core's text tower on the text encoder's device, with float32 copies of the host's weights as they
            are now, LoRA included; (H,) wide. Holds on to a lot of memory (0.5 GB for clip_l, 2.8 GB for clip_g).
        projection: (D, H) float32, the host's own, where it has a real one: clip_g's. SD1.5 checkpoints have none and
            ComfyUI leaves that memory as it is, so that of other towers is never read.
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
    _require_plain(model)
    parts = _parts(model)
    model.reset_clip_options()
    if clip.layer_idx is not None:
        model.set_clip_options({"layer": clip.layer_idx})
    clip.load_model()
    _load_fully(model)
    return {name: _host_tower(clip, name, part) for name, part in parts.items()}


def _host_tower(clip: Any, name: str, part: Any) -> HostTower:
    device = comfy.model_management.text_encoder_device()

    def tokenize(text: str) -> torch.Tensor:
        chunks = clip.tokenize(text)[_key(clip.cond_stage_model, name)]
        return token_ids(_usable(chunks, part.transformer, part.special_tokens["pad"])).to(device)

    return HostTower(name, *_copied(name, part.transformer, device), _clip_skip(part), _norms_skipped(part), tokenize)


def _copied(name: str, tower: Any, device: torch.device) -> tuple[torch.nn.Module, torch.Tensor | None]:
    """The core's text tower and the projection, as copies that gradients may meet."""
    with torch.inference_mode(False):
        state = {
            key: value.detach().to(device, torch.float32, copy=True)
            for key, value in tower.state_dict().items()
            if key.startswith("text_model.") or (name == "clip_g" and key == _PROJECTION)
        }
        projection = state.pop(_PROJECTION, None)
        return text_model_from_state_dict(state, _facts(tower)), projection


def _parts(model: Any) -> dict[str, Any]:
    """ComfyUI's text models by name."""
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


def _key(model: Any, name: str) -> str:
    """Under which the host's tokenizer gives a tower's tokens."""
    return str(getattr(model, "clip_name", name.removeprefix("clip_")))


def _require_plain(model: Any) -> None:
    if isinstance(model, _Steered):
        raise SteeringError(
            "Cannot steer this CLIP: found one that was adapted before; expected a plain one. Connect the CLIP of the "
            "checkpoint, and join several tastes with Blend Tastes."
        )


def _norms_skipped(part: Any) -> bool:
    return bool(part.layer_norm_hidden_state)


@dataclass(frozen=True)
class HostText:
    """What the host is about to encode, as the core takes it.

    Attributes:
        model: The core's text tower, filled with copies of the host's weights.
        ids: (C, 77) token ids. vectors: (H,) by (chunk, place), where a textual inversion stands instead.
        encode: The host's own encoder.
        clip_skip: Layers that the host leaves out at the end. norm_skipped: whether their states are normed then.
    """

    model: torch.nn.Module
    ids: torch.Tensor
    vectors: Mapping[tuple[int, int], torch.Tensor]
    encode: Encode
    clip_skip: int
    norm_skipped: bool


Steer = Callable[[HostText], torch.Tensor]
"""Gives the token states in place of the host's."""


def steered_clip(clip: Any, steer: Steer) -> Any:
    """A CLIP that encodes as the host does, with somebody's say in the token states.

    Args:
        clip: CLIP with a single CLIP text encoder, as SD1.x, SD2.x and the playground have it. Stays as it is.
        steer: Called once for every set of weights that the host encodes with: once a text, or once per LoRA keyframe.

    Returns:
        CLIP; LoRAs and clip skip that are applied to it later count, too.

    Raises:
        SteeringError: the CLIP has another kind of text encoder, or is a steered one.
    """
    _tower(clip.cond_stage_model)
    _require_plain(clip.cond_stage_model)
    stand_in = clip.clone()
    stand_in.cond_stage_model = _Steered(clip.cond_stage_model, steer)
    return stand_in


def encode_steered(clip: Any, text: str, steer: Steer) -> list[Any]:
    """Encode a text, in the host's syntax, with a `steered_clip`: CONDITIONING, as from the host's own text node."""
    tokens = clip.tokenize(text)
    steered = steered_clip(clip, steer)
    conditioning: list[Any] = steered.encode_from_tokens_scheduled(tokens)
    return conditioning


class _Steered:
    """Stands in for the host's text encoder: steers what it encodes, and passes on all else."""

    def __init__(self, model: Any, steer: Steer) -> None:
        self._model = model
        self._steer = steer

    def __getattr__(self, name: str) -> Any:
        if name in ("_model", "_steer"):  # not there yet while somebody copies this
            raise AttributeError(name)
        return getattr(self._model, name)

    def encode_token_weights(self, tokens: Mapping[str, Any]) -> Any:
        model, tower = self._model, _tower(self._model)
        _load_fully(model)
        device = comfy.model_management.text_encoder_device()
        plain = model.encode_token_weights(tokens)
        inner = getattr(model, model.clip)
        with torch.inference_mode(False):
            state = {name: value.detach().to(device, copy=True) for name, value in tower.state_dict().items()}
            text_model = text_model_from_state_dict(state, _facts(tower))
            chunks = _usable(tokens[model.clip_name], tower, inner.special_tokens["pad"])
            host = HostText(
                text_model,
                token_ids(chunks).to(device),
                _vectors(chunks),
                lambda change: self._encode(tokens, chunks, plain[0], change),
                _clip_skip(inner),
                bool(inner.layer_norm_hidden_state),
            )
            steered = self._steer(host)
        return (steered.to(plain[0]), *plain[1:])

    def _encode(self, tokens: Mapping[str, Any], chunks: Chunks, plain: torch.Tensor, change: Change | None) -> Any:
        """The host's token states, plain or with a change."""
        model = self._model
        if change is None:
            return plain
        if change.delta is not None:
            # The host's token weights act on states in a straight line, so they act on what is added to them, too.
            weights = torch.tensor([[float(token[1]) for token in chunk] for chunk in chunks])
            added = change.delta.cpu() * weights[..., None]
            return plain + added.reshape(1, -1, added.shape[-1]).to(plain)
        with torch.inference_mode():
            if change.inputs is not None and change.rows is not None:
                moved = _with_inputs(chunks, change.inputs.cpu(), change.rows.cpu())
                return model.encode_token_weights({**tokens, model.clip_name: moved})[0]
            assert change.weights is not None
            names = {f"model.{model.clip}.transformer.{name}": value for name, value in change.weights.items()}
            return functional_call(_EncodeTokens(model), names, (tokens,))[0]


class _EncodeTokens(torch.nn.Module):
    """Makes `encode_token_weights` the module's call, which is what functional_call calls."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Mapping[str, Any]) -> Any:
        return self.model.encode_token_weights(tokens)  # type: ignore[operator]


def _load_fully(model: Any) -> None:
    """Have the host merge LoRAs into all weights; where memory is short, it leaves some of that for later."""
    if not getattr(model, "model_lowvram", False):
        return
    for loaded in list(comfy.model_management.current_loaded_models):
        if loaded.model is not None and loaded.model.model is model:
            comfy.model_management.load_models_gpu([loaded.model], force_full_load=True)


def token_ids(chunks: Chunks) -> torch.Tensor:
    """The host's weighted tokens as ids (chunks, length); the start token's stands where a vector has none."""
    return torch.tensor(
        [[token[0] if _is_id(token[0]) else chunk[0][0] for token in chunk] for chunk in chunks], dtype=torch.long
    )


def _usable(chunks: Chunks, tower: Any, pad: int) -> Chunks:
    """Without what the host leaves out when it encodes: vectors of another width. It fills up with padding, too."""
    width = tower.get_input_embeddings().weight.shape[1]
    kept = [
        [t for t in chunk if _is_id(t[0]) or (torch.is_tensor(t[0]) and t[0].shape == (width,))] for chunk in chunks
    ]
    return [[*good, *[(pad, 1.0)] * (len(chunk) - len(good))] for good, chunk in zip(kept, chunks, strict=True)]


def _vectors(chunks: Chunks) -> dict[tuple[int, int], torch.Tensor]:
    return {
        (number, place): token[0].detach().clone()
        for number, chunk in enumerate(chunks)
        for place, token in enumerate(chunk)
        if not _is_id(token[0])
    }


def _with_inputs(chunks: Chunks, inputs: torch.Tensor, rows: torch.Tensor) -> Chunks:
    """The tokens with vectors in place of those that were moved; weights stay."""
    return [
        [(inputs[number, place], *token[1:]) if rows[number, place] else token for place, token in enumerate(chunk)]
        for number, chunk in enumerate(chunks)
    ]


def _is_id(token: Any) -> bool:
    return isinstance(token, numbers.Integral)


def _clip_skip(inner: Any) -> int:
    """Layers that the host leaves out at the end, as it is set at this moment."""
    if inner.layer != "hidden":
        return 0
    count = int(inner.num_layers)
    return count - 1 - (inner.layer_idx % count)


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
