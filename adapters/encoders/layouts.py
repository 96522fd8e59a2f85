"""One canonical layout for every CLIP: the names of transformers' `CLIPModel`.

    vision_model.…  visual_projection.weight (D, W)      image tower
    text_model.…    text_projection.weight (D, H)        text tower
    logit_scale ()                                       natural logarithm, as all layouts store it

open_clip and OpenAI's own files use `visual.…`, `transformer.resblocks.…`; ComfyUI uses transformers' names, sometimes
behind a prefix; a tower saved alone by transformers 5 has no prefix at all. Position counters are no weights: left out.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ..errors import EncoderError

__all__ = ["canonical_state", "has_image_tower", "has_text_tower"]

FITTING_FILES = (
    "Give a full CLIP with both towers, for example 'open_clip:ViT-L-14/openai', a transformers CLIPModel folder, "
    "or its model.safetensors (ComfyUI keeps such files in clip_vision or text_encoders)"
)
_PREFIXES = (
    "module.",
    "clip.",
    "cond_stage_model.transformer.",
    "cond_stage_model.model.",
    "clip_l.transformer.",
    "clip_g.transformer.",
)
_BLOCK = {
    "ln_1.": "layer_norm1.",
    "ln_2.": "layer_norm2.",
    "mlp.c_fc.": "mlp.fc1.",
    "mlp.c_proj.": "mlp.fc2.",
    "attn.out_proj.": "self_attn.out_proj.",
}
_OPEN_CLIP_IMAGE = {
    "class_embedding": "embeddings.class_embedding",
    "positional_embedding": "embeddings.position_embedding.weight",
    "conv1.weight": "embeddings.patch_embedding.weight",
    "ln_pre.weight": "pre_layrnorm.weight",
    "ln_pre.bias": "pre_layrnorm.bias",
    "ln_post.weight": "post_layernorm.weight",
    "ln_post.bias": "post_layernorm.bias",
}
_OPEN_CLIP_TEXT = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
}
_KEPT = ("vision_model.", "text_model.", "visual_projection.weight", "text_projection.weight", "logit_scale")


def has_image_tower(state: Mapping[str, Tensor]) -> bool:
    """Whether a canonical state holds an image tower and its projection."""
    return "vision_model.embeddings.patch_embedding.weight" in state and "visual_projection.weight" in state


def has_text_tower(state: Mapping[str, Tensor]) -> bool:
    """Whether a canonical state holds a text tower and its projection."""
    return "text_model.embeddings.token_embedding.weight" in state and "text_projection.weight" in state


def canonical_state(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a CLIP of any layout to transformers' names; tensors are shared or views, never copied.

    Args:
        state_dict: Tensors by name as open_clip, OpenAI, transformers 4 or 5, or ComfyUI keep them; one tower or both.

    Returns:
        The canonical state: only towers, projections and logit_scale, in no particular order.

    Raises:
        EncoderError: nothing in it is a CLIP tower.
    """
    state = _without_prefix({name: value.detach() for name, value in state_dict.items() if isinstance(value, Tensor)})
    if any(".resblocks.0.attn.in_proj_weight" in name for name in state):
        state = _from_open_clip(state)
    elif "embeddings.token_embedding.weight" in state:
        state = _under("text_model.", state)
    elif "embeddings.patch_embedding.weight" in state:
        state = _under("vision_model.", state)
    kept = {n: v for n, v in state.items() if n.startswith(_KEPT) and not n.endswith("position_ids")}
    if not any(n.startswith(("vision_model.embeddings.patch", "text_model.embeddings.token")) for n in kept):
        found = ", ".join(sorted(state_dict)[:3]) or "no tensors"
        raise EncoderError(f"Cannot read this as a CLIP: found {found} …; expected a CLIP tower. {FITTING_FILES}.")
    if "vision_model.embeddings.class_embedding" in kept:  # open_clip and transformers (W,); some exports (1, 1, W)
        kept["vision_model.embeddings.class_embedding"] = kept["vision_model.embeddings.class_embedding"].flatten()
    return kept


def _without_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in _PREFIXES:
        if any(name.startswith(prefix) for name in state):
            inner = {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}
            state = {n: v for n, v in state.items() if not n.startswith(prefix)} | inner
    return state


def _under(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    apart = ("visual_projection.", "text_projection.", "logit_scale")
    return {(n if n.startswith(apart) else prefix + n): v for n, v in state.items()}


def _from_open_clip(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if any(n.startswith("text.transformer.") for n in state):  # open_clip's CustomTextCLIP keeps the text apart
        state = {n.removeprefix("text."): v for n, v in state.items()}
    out: dict[str, Tensor] = {}
    for name, value in state.items():
        if name.startswith("visual."):
            inner = name.removeprefix("visual.")
            if inner == "proj":
                out["visual_projection.weight"] = value.T
            elif inner in _OPEN_CLIP_IMAGE:
                out["vision_model." + _OPEN_CLIP_IMAGE[inner]] = value
            elif inner.startswith("transformer.resblocks."):
                out |= _block("vision_model.", inner, value)
            else:
                raise _not_plain(name)
        elif name == "text_projection":
            out["text_projection.weight"] = value.T
        elif name in _OPEN_CLIP_TEXT:
            out["text_model." + _OPEN_CLIP_TEXT[name]] = value
        elif name.startswith("transformer.resblocks."):
            out |= _block("text_model.", name, value)
        elif name in ("logit_scale", "text_projection.weight"):
            out[name] = value
    return out


def _block(tower: str, name: str, value: Tensor) -> dict[str, Tensor]:
    """One tensor of a residual block; the fused query, key, value matrix becomes three."""
    number, inner = name.removeprefix("transformer.resblocks.").split(".", 1)
    base = f"{tower}encoder.layers.{number}."
    if inner in ("attn.in_proj_weight", "attn.in_proj_bias"):
        end = inner.rsplit("_", 1)[1]
        parts = zip(("q_proj", "k_proj", "v_proj"), value.chunk(3, dim=0), strict=True)
        return {f"{base}self_attn.{part}.{end}": tensor for part, tensor in parts}
    for theirs, ours in _BLOCK.items():
        if inner.startswith(theirs):
            return {base + ours + inner.removeprefix(theirs): value}
    raise _not_plain(name)


def _not_plain(name: str) -> EncoderError:
    return EncoderError(f"Cannot read this as a CLIP: found {name}; expected a plain ViT CLIP. {FITTING_FILES}.")
