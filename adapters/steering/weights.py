"""Moving one prompt along a taste inside a text encoder, in any host.

Stable Diffusion 1.5 is conditioned on the text encoder's token states, while preferences speak about its projected
pooled embedding x. Both hang on what goes into the encoder, on its weights and on its states: one of these is moved
(`ways.py`) so that x goes where the taste points, and the token states that come of it condition the image.

Shapes: C chunks of T = 77 tokens, H width of the text encoder, D joint width.

Source: Gallego 2022, arXiv:2209.12330 (Adam on the text encoder's weights), with the objective of Gallego 2023,
arXiv:2308.07929. Differs: other ways beside the weights, any number of chunks (mean objective), strength, and the
length of steps: a learning rate suits one size and training of a text encoder, an angle suits all, so steps are as long
as turns x by a given angle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ShapeError, SteeringError
from .adapted import Adapted, Change
from .descent import Cancelled, OnStep, descend
from .objective import TasteLike, TasteObjective
from .settings import SteeringSettings
from .text_model import TextModel, Vectors
from .ways import way_of

__all__ = ["Encode", "adapt_text_weights", "side_objective"]

Encode = Callable[[Change | None], Tensor]


def adapt_text_weights(
    text_model: nn.Module,
    token_ids: Tensor,
    taste: TasteLike,
    projection: Tensor | None,
    settings: SteeringSettings | None = None,
    *,
    encode: Encode | None = None,
    clip_skip: int = 0,
    norm_skipped: bool = True,
    vectors: Vectors | None = None,
    takes_pooled: bool = False,
    logit_scale: float = 100.0,
    on_step: OnStep | None = None,
    cancelled: Cancelled | None = None,
) -> Adapted:
    """Adapt a text encoder to one prompt and one taste, by `settings.method`.

    The model itself is never touched, and its parameters may be inference tensors: gradients run on float32 clones
    through `torch.func.functional_call` on a twin that shares no state with it. The caller may be in inference mode.

    A host whose text encoder can't be differentiated (ComfyUI's works in place) gives `text_model =
    adapters.encoders.text_model_from_state_dict(transformer.state_dict())` for the gradients and its own encoder as
    `encode`: `encode(None)` must return the host's plain conditioning and `encode(change)` the conditioning with that
    `Change`. Weights have the names of `text_model`, which for ComfyUI are the names inside
    `clip.cond_stage_model.clip_l.transformer`, so there it is, with a small module whose forward calls
    `encode_token_weights`: `functional_call(wrapper, {f"{path}.{name}": w for name, w in weights.items()}, (pairs,))`.

    Args:
        text_model: transformers' `CLIPTextModel`, or `TextTower`.
        token_ids: (C, T) one row a chunk, each with its own end token. All chunks belong to the conditional prompt;
            leave the negative one out.
        taste: What to move towards.
        projection: (D, H), x = projection @ pooled state. None works with a taste that has `text_weights`.
        settings: How; strength 0 or 0 steps run no gradient at all.
        encode: The host's own encoder, see above; None uses `text_model`.
        clip_skip: Layers left out at the end of the conditioning, as diffusers counts (1 is the penultimate layer).
            The embedding x that is moved is always the last layer's.
        norm_skipped: Whether a skipped layer's output goes through the final layer norm (SD1.5 yes, SDXL no).
        vectors: (H,) by (chunk, place): what stands there instead of a token (textual inversion); with `encode` only.
        takes_pooled: Whether the model also takes this encoder's projected pooled vector (SDXL's larger one); "pooled"
            needs it.
        logit_scale: Where the settings have none.
        on_step: Called with (steps done, steps) after every step.
        cancelled: Asked before every step.

    Returns:
        The prompt, plain and adapted at strength 1.

    Raises:
        CancelledError: `cancelled` said so.
        ShapeError: token ids, projection and taste don't fit together.
        SteeringError: no projection for a taste that needs one, "pooled" without `takes_pooled`, or weights became
            NaN.
    """
    settings = (settings or SteeringSettings()).settled()
    _require_pooled(settings, projection, takes_pooled)
    with torch.inference_mode(False), torch.no_grad():
        objective, matrix = _objective(taste, projection, settings, logit_scale, token_ids)
        model = TextModel(text_model, token_ids.detach().clone(), matrix, clip_skip, norm_skipped, vectors)
        _require_width(model, objective)
        here = objective.to(model.ids.device)
        encode = encode or model.conditioning
        plain = encode(None).detach().clone()
        if settings.strength == 0 or settings.steps == 0:
            before = model.own_embedding().cpu()
            return Adapted(plain, plain, before, before, objective, limit=settings.limit)
        way = way_of(settings.method, model)
        before = way.embedding().clone()
        descend(way.embedding, way.steps, here, settings, on_step, cancelled)
        after, change = way.embedding(), way.change()
        adapted = encode(change).detach().clone() if way.moves_tokens else plain
        if not bool(torch.isfinite(adapted).all() and torch.isfinite(after).all()):
            raise SteeringError("Cannot steer: the text encoder gave NaN; expected numbers. Lower the learning rate.")
        before, after = before.cpu(), after.cpu()
        return Adapted(plain, adapted.to(plain), before, after, objective, change, settings.limit, way.moves_tokens)


def _require_pooled(settings: SteeringSettings, projection: Tensor | None, takes_pooled: bool) -> None:
    if settings.method != "pooled":
        return
    if not takes_pooled:
        raise SteeringError(
            "Cannot steer by 'pooled': this model takes no pooled vector from this text encoder; expected SDXL and its "
            "larger one (clip_g). Use 'auto', or with SDXL a taste of open_clip:ViT-bigG-14/laion2b_s39b_b160k."
        )
    if projection is None:
        raise SteeringError(
            "Cannot steer by 'pooled': found no text projection; expected the model's own. Use 'token_input'."
        )


def _require_width(model: TextModel, objective: TasteObjective) -> None:
    wanted = objective.dim if model.matrix is None else model.matrix.shape[1]
    if model.width != wanted:
        raise ShapeError(
            f"Cannot steer: the text encoder is {model.width} wide and the taste's text side {wanted}; expected the "
            "same. Choose the encoder that belongs to this base model (SD1.5: open_clip:ViT-L-14/openai)."
        )


def _objective(
    taste: TasteLike, projection: Tensor | None, settings: SteeringSettings, logit_scale: float, ids: Tensor
) -> tuple[TasteObjective, Tensor | None]:
    if ids.ndim != 2 or ids.is_floating_point() or 0 in ids.shape:
        raise ShapeError(f"Cannot steer: token ids are {tuple(ids.shape)}; expected whole numbers (chunks, 77).")
    return side_objective(taste, projection, settings.logit_scale or logit_scale, settings.objective)


def side_objective(
    taste: TasteLike, projection: Tensor | None, scale: float, kind: str = "bradley_terry"
) -> tuple[TasteObjective, Tensor | None]:
    """What a taste wants of a text side with that (D, H) projection, and the projection in float32.

    Without a projection, x is the pooled state itself, and the taste must have been carried there (`text_weights`).

    Raises:
        ShapeError: taste and projection don't fit together.
        SteeringError: no projection for a taste that needs one.
    """
    if projection is None:
        side = getattr(taste, "text_weights", None)
        if side is None:
            raise SteeringError(
                "Cannot steer: found no text projection; expected one, or a taste that was carried to the text side. "
                "Load a full CLIP (both towers), such as open_clip:ViT-L-14/openai: SD1.5 checkpoints have none."
            )
        return TasteObjective.of(_Side(side, taste.encoder, taste.encoder_name), "direction", scale), None
    objective = TasteObjective.of(taste, kind, scale)
    matrix = projection.detach().clone().to(torch.float32)
    if matrix.ndim != 2 or matrix.shape[0] != objective.dim:
        raise ShapeError(
            f"Cannot steer: the projection is {tuple(matrix.shape)} and the taste {objective.dim} wide; expected "
            f"({objective.dim}, width of the text encoder). Choose the encoder that the taste was learned with."
        )
    return objective, matrix


@dataclass(frozen=True)
class _Side:
    """A taste carried to the text side: weights W^T w over the text encoder's pooled state."""

    weights: Any
    encoder: str
    encoder_name: str
