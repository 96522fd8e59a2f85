"""The text encoders of what a web UI has loaded.

Both hosts turn a prompt into chunks of 77 tokens and give each to `encode_with_transformers` of an object that holds
one of transformers' text models. Which layer they take depends on a setting, and on the host.

Shapes: B prompts of T = 77 tokens, H width of a text encoder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...adapters.errors import SteeringError

__all__ = ["TextEngine", "engines_of"]

_BARE = ("embeddings.", "encoder.", "final_layer_norm.")


@dataclass(frozen=True)
class TextEngine:
    """One of a model's text encoders.

    Attributes:
        name: "clip_l" or "clip_g".
        owner: Has `encode_with_transformers(tokens (B, T)) -> (B, T, H)`.
        model: The text model, of any layout that `text_model_from_state_dict` reads.
        clip_skip: () -> layers left out at the end, as diffusers counts. norm_skipped: Whether those are normed then.
        fixes: () -> textual inversions of the next call, B lists of (offset, embedding), or None.
    """

    name: str
    owner: Any
    model: torch.nn.Module
    clip_skip: Callable[[], int]
    norm_skipped: bool
    fixes: Callable[[], Any]

    @property
    def width(self) -> int:
        """H."""
        return int(self.state()["text_model.embeddings.token_embedding.weight"].shape[1])

    def state(self) -> dict[str, Tensor]:
        """Its weights under their plain names; the hosts wrap the table of words for textual inversions."""
        found = {}
        for name, value in self.model.state_dict().items():
            plain = name.replace("token_embedding.wrapped.", "token_embedding.")
            if plain.startswith(_BARE):  # as transformers has it from version 5
                plain = f"text_model.{plain}"
            if plain.startswith("text_model."):
                found[plain] = value
        return found


def engines_of(model: Any, options: Any = None) -> list[TextEngine]:
    """Return the text encoders of the model that the host has loaded.

    Args:
        model: `shared.sd_model` of Forge or Automatic1111.
        options: Automatic1111's `shared.opts`, where clip skip is.

    Raises:
        SteeringError: a kind of model that can't be steered here; it says which can.
    """
    forge = [("clip_l", "text_processing_engine"), ("clip_l", "text_processing_engine_l")]
    forge += [("clip_g", "text_processing_engine_g")]
    found = [_of_forge(name, getattr(model, key)) for name, key in forge if _is_clip(getattr(model, key, None))]
    if not found:
        found = _of_a1111s(model, options)
    if not found:
        raise SteeringError(
            f"Cannot steer this model: found {type(model).__name__}; expected Stable Diffusion 1.5 or SDXL. Choose "
            "such a checkpoint."
        )
    return found


def _is_clip(engine: Any) -> bool:
    return hasattr(engine, "encode_with_transformers") and hasattr(getattr(engine, "text_encoder", None), "transformer")


def _of_forge(name: str, engine: Any) -> TextEngine:
    return TextEngine(
        name,
        engine,
        engine.text_encoder.transformer,
        lambda: max(int(engine.clip_skip), int(engine.minimal_clip_skip)) - 1,
        bool(engine.final_layer_norm),
        lambda: engine.embeddings.fixes,
    )


def _of_a1111s(model: Any, options: Any) -> list[TextEngine]:
    parts = [(one, True) for one in getattr(getattr(model, "conditioner", None), "embedders", [])]  # SDXL's
    if not any(one is getattr(model, "cond_stage_model", None) for one, _ in parts):
        parts.append((getattr(model, "cond_stage_model", None), False))
    return [_of_a1111(one, options, large) for one, large in parts if _is_hijacked(one)]


def _is_hijacked(part: Any) -> bool:
    # OpenCLIP's own model, which Automatic1111 has for SDXL's larger text encoder and SD 2.x, isn't one of these.
    transformer = getattr(getattr(part, "wrapped", None), "transformer", None)
    return hasattr(part, "encode_with_transformers") and hasattr(transformer, "text_model")


def _of_a1111(part: Any, options: Any, large: bool) -> TextEngine:
    """Automatic1111's, or reForge's, which has a limit of its own for each."""
    wrapped, limit = part.wrapped, getattr(part, "minimal_clip_skip", None)
    table = wrapped.transformer.text_model.embeddings.token_embedding

    def clip_skip() -> int:
        stop = int(getattr(options, "CLIP_stop_at_last_layers", 1))
        asked = stop > limit if limit is not None else not large or getattr(options, "sdxl_clip_l_skip", False) is True
        if asked or getattr(wrapped, "layer", "last") == "last":
            return stop - 1 if asked else 0
        layers = len(wrapped.transformer.text_model.encoder.layers)
        return (layers - int(wrapped.layer_idx)) % (layers + 1)

    return TextEngine(
        getattr(table, "textual_inversion_key", "clip_l"),
        part,
        wrapped.transformer,
        clip_skip,
        not large,
        lambda: getattr(part.hijack, "fixes", None),
    )
