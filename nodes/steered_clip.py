"""A CLIP that encodes as the host's does, with somebody's say in what it gives.

Shapes: C chunks of T = 77 tokens, H width of a text encoder, D joint width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import comfy.utils
import torch

from ..adapters.encoders import ImageTextEncoder, TextStates
from ..adapters.errors import SteeringError
from ..adapters.steering import Adapted, SteeringSettings, adapt_text_weights
from ..adapters.steering.objective import taste_key
from ..adapters.taste import Taste
from .host_text import HostText, load_fully, text_parts, token_key
from .kept import Kept, text_mark, weights_mark
from .moved_encoders import Steering, moved_encoders
from .room import make_room

__all__ = ["encode_steered", "steered_clip"]


@dataclass(frozen=True)
class _Encoded:
    """One text in all text encoders of a CLIP, by their names.

    Attributes:
        plain: The host's answers: token states (1, C·T, H), pooled vector (1, D), and what else it may give.
        adapted: Those that are moved.
        pooled: Which of them move the pooled vector, too.
    """

    plain: Mapping[str, tuple[Any, ...]]
    adapted: Mapping[str, Adapted]
    pooled: frozenset[str]


KEPT: Kept[_Encoded] = Kept()


def steered_clip(clip: Any, steering: Steering) -> Any:
    """A CLIP that moves what it encodes; LoRAs and clip skip that are applied to it later count, too.

    Args:
        clip: CLIP of SD1.x, SD2.x, SDXL, its refiner or the playground. Stays as it is.
        steering: Whose say.

    Raises:
        EncoderMismatchError: an encoder belongs to none of its text encoders.
        SteeringError: the CLIP has another kind of text encoder or is a steered one, or can't be steered this way.
    """
    model = clip.cond_stage_model
    stand_in = clip.clone()
    stand_in.cond_stage_model = _Steered(model, steering, moved_encoders(text_parts(model), steering))
    return stand_in


def encode_steered(clip: Any, text: str, steering: Steering) -> list[Any]:
    """Encode a text, in the host's syntax, with a `steered_clip`: CONDITIONING, as from the host's own text node."""
    tokens = clip.tokenize(text)
    conditioning: list[Any] = steered_clip(clip, steering).encode_from_tokens_scheduled(tokens)
    return conditioning


class _Steered:
    """Stands in for the host's text encoder: steers what it encodes, and passes on all else."""

    steers = True

    def __init__(self, model: Any, steering: Steering, moving: Mapping[str, tuple[Taste, ImageTextEncoder]]) -> None:
        self._model, self._steering, self._moving = model, steering, moving

    def __getattr__(self, name: str) -> Any:
        if name in ("_model", "_steering", "_moving"):  # not there yet while somebody copies this
            raise AttributeError(name)
        return getattr(self._model, name)

    def encode_token_weights(self, tokens: Mapping[str, Any]) -> Any:
        load_fully(self._model)
        parts = text_parts(self._model)
        texts = {name: tokens[token_key(self._model, name)] for name in parts}
        settings = self._steering.settings.settled(len(parts))
        # Strength and limit act on what is kept.
        learned = dataclasses.replace(settings, strength=1.0, limit=180.0)
        layers = tuple((part.layer, part.layer_idx, part.return_projected_pooled) for part in parts.values())
        keys = frozenset((name, taste_key(taste), _side(encoder)) for name, (taste, encoder) in self._moving.items())
        weights = weights_mark(self._model, (part.transformer for part in parts.values()))
        key = (text_mark(texts), weights, layers, keys, learned)
        found = KEPT.get(self._model, key)
        if found is None:
            found = self._encode(parts, texts, learned)
            KEPT.put(self._model, key, found, _bytes(found))
        return _together(found, settings)

    def _encode(self, parts: Mapping[str, Any], texts: Mapping[str, Any], settings: SteeringSettings) -> _Encoded:
        progress = _Progress(settings.steps * len(self._moving))
        plain: dict[str, tuple[Any, ...]] = {}
        adapted: dict[str, Adapted] = {}
        texts_in = {name: HostText(name, part, texts[name]) for name, part in parts.items()}
        for name, text in texts_in.items():
            plain[name] = text.plain
            if name in self._moving:
                make_room(self._model, text, settings.method)
                adapted[name] = _adapt(text, *self._moving[name], settings, progress)
        return _Encoded(plain, adapted, frozenset(name for name, text in texts_in.items() if text.projected))


class _Progress:
    """The bar of the node that encodes, over all text encoders that are moved; and its cancel button."""

    def __init__(self, steps: int) -> None:
        self._bar, self._done = comfy.utils.ProgressBar(steps), 0

    def step(self, *_: int) -> None:
        self._done += 1
        self._bar.update_absolute(self._done)
        comfy.model_management.throw_exception_if_processing_interrupted()


class _Answer(torch.nn.Module):
    """Stands for a text model whose pooled vector is known, so that "pooled" needs no copy of the weights."""

    def __init__(self, pooled: torch.Tensor) -> None:
        super().__init__()
        self.token_embedding = torch.nn.Embedding(1, pooled.shape[-1])  # what tells how wide it is
        self._pooled = pooled

    def forward(self, input_ids: torch.Tensor, output_hidden_states: bool = True) -> TextStates:
        return TextStates(self._pooled[:, None], self._pooled, ())


def _adapt(
    text: HostText, taste: Taste, encoder: ImageTextEncoder, settings: SteeringSettings, progress: _Progress
) -> Adapted:
    """One text encoder's answer, moved; without what was moved in it, which is as large as the encoder."""
    if settings.method == "eos_token" and text.last_unnormed:
        raise SteeringError(
            f"Cannot steer {text.name} by 'eos_token': found clip skip -1, where SDXL leaves out the final norm; "
            "expected -2 or further, SDXL's own is -2. Change stop_at_clip_layer, or choose token_input."
        )
    with torch.inference_mode(False):
        if settings.method == "pooled" and text.projected:
            pooled = text.plain[1].detach().to("cpu", torch.float32, copy=True)
            model, own, skip = _Answer(pooled), torch.eye(pooled.shape[-1]), 0
        else:
            model, own = text.copied(comfy.model_management.text_encoder_device())
            skip = text.clip_skip
        found = adapt_text_weights(
            model,
            text.ids,
            taste,
            encoder.text_projection if own is None else own,
            settings,
            encode=text.encode,
            clip_skip=skip,
            norm_skipped=text.norm_skipped,
            vectors=None if isinstance(model, _Answer) else text.vectors,
            takes_pooled=text.projected,
            logit_scale=encoder.logit_scale,
            on_step=progress.step,
        )
    return dataclasses.replace(found, change=None)


def _together(found: _Encoded, settings: SteeringSettings) -> tuple[Any, ...]:
    """What the host would give: one text encoder's answer, or SDXL's two side by side, as long as the shorter."""
    answers = {
        name: _moved(plain, found.adapted.get(name), name in found.pooled, settings)
        for name, plain in found.plain.items()
    }
    if len(answers) == 1:
        return next(iter(answers.values()))
    length = min(states.shape[1] for states, *_ in answers.values())
    joined = torch.cat([states[:, :length] for states, *_ in answers.values()], dim=-1)
    return joined, answers["clip_g"][1]


def _moved(
    plain: tuple[Any, ...], adapted: Adapted | None, with_pooled: bool, settings: SteeringSettings
) -> tuple[Any, ...]:
    """One text encoder's answer at a strength; copies, because what is kept must stay."""
    states, pooled, *rest = plain
    if adapted is None:
        return states.clone(), pooled if pooled is None else pooled.clone(), *rest
    adapted = dataclasses.replace(adapted, limit=settings.limit)
    with torch.inference_mode(False):
        tokens = adapted.tokens(settings.strength).to(states, copy=True)
        pooled = pooled if pooled is None else pooled.clone()
        if with_pooled and pooled is not None:
            turned = (adapted.embedding(settings.strength) - adapted.plain_embedding)[:1]
            pooled = (pooled.float() + turned.to(pooled.device)).to(pooled)
    return tokens, pooled, *rest


def _side(encoder: ImageTextEncoder) -> tuple[str, float, int]:
    """Of an encoder, what steering hangs on beside the taste."""
    side = encoder.text_projection
    return encoder.identity, encoder.logit_scale, 0 if side is None else hash(side.numpy().tobytes())


def _bytes(encoded: _Encoded) -> int:
    tensors = [part for answer in encoded.plain.values() for part in answer if torch.is_tensor(part)]
    for adapted in encoded.adapted.values():
        tensors += [adapted.plain, adapted.adapted]
        tensors += [side for side in (adapted.objective.chosen, adapted.objective.rejected) if side is not None]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
