"""Moving what the web UIs' own text encoders give, along a taste, while one picture's prompt is encoded.

`encode_with_transformers` of each text encoder is wrapped; emphasis is put on what comes back. What the host computes
stays as it is; added to it is the difference that a taste makes to the same tokens in a copy of the same weights, LoRA
and textual inversions included. Negative prompts are never moved.

Shapes: B prompts of T = 77 tokens, H width of a text encoder.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ...adapters.encoders import text_model_from_state_dict
from ...adapters.errors import EncoderMismatchError, SteeringError
from ...adapters.steering import SteeringSettings, adapt_text_weights
from ...adapters.taste import Taste
from .text_engines import TextEngine

__all__ = ["Steered"]

KEPT = 64  # chunks whose movement is remembered
_SAMPLES = 64  # numbers of each tensor that tell whether weights have changed
_WIDTHS = {768: "OpenAI's CLIP ViT-L/14", 1280: "OpenCLIP ViT-bigG/14", 1024: "OpenCLIP ViT-H/14"}


class Steered:
    """A model whose prompts follow tastes until `end`.

    Args:
        model: `shared.sd_model`.
        engines: As `engines_of` gives them.
        tastes: At most one for each text encoder; with a text side.
        settings: How, with the strength.
        on_trouble: Hears why a prompt was left as it is.

    Raises:
        EncoderMismatchError: a taste belongs to none of the model's text encoders.
        SteeringError: a taste without a text side.
    """

    def __init__(
        self,
        model: Any,
        engines: Sequence[TextEngine],
        tastes: Sequence[Taste],
        settings: SteeringSettings,
        on_trouble: Callable[[str], None],
    ) -> None:
        self._model, self._settings, self._on_trouble = model, settings, on_trouble
        pairs = [(engine, taste) for taste in tastes for engine in engines if _fits(taste, engine)]
        for taste in tastes:
            if not any(one is taste for _, one in pairs):
                raise _misfit(taste, engines)
        self._several = len(engines) > 1
        self._kept: OrderedDict[Any, Tensor] = OrderedDict()
        self._plain = False  # while a negative prompt is encoded
        self._restore: list[tuple[Any, str, Any]] = []
        self._put(model, "get_learned_conditioning", self._knowing_negative(model.get_learned_conditioning))
        for engine, taste in pairs:
            self._put(engine.owner, "encode_with_transformers", self._moving(engine, taste))

    def end(self) -> None:
        """Have the host encode as it does by itself; a second time does nothing."""
        while self._restore:
            owner, name, before = self._restore.pop()
            vars(owner).pop(name, None)
            if before is not None:
                vars(owner)[name] = before

    def _put(self, owner: Any, name: str, method: Callable[..., Any]) -> None:
        # On the object, beside the class's own method: taking it away leaves the host as it was.
        self._restore.append((owner, name, vars(owner).get(name)))
        vars(owner)[name] = method

    def _knowing_negative(self, own: Callable[..., Any]) -> Callable[..., Any]:
        def encode(prompts: Any, *args: Any, **more: Any) -> Any:
            self._plain = bool(getattr(prompts, "is_negative_prompt", False))
            try:
                return own(prompts, *args, **more)
            finally:
                self._plain = False

        return encode

    def _moving(self, engine: TextEngine, taste: Taste) -> Callable[[Any], Any]:
        own = engine.owner.encode_with_transformers

        def encode(tokens: Any) -> Any:
            fixes = engine.fixes()  # the call takes them away
            found = own(tokens)
            if self._plain or self._settings.strength == 0:
                return found
            try:
                added = self._added(engine, taste, torch.as_tensor(tokens), fixes)
            except Exception as error:  # a prompt without its taste beats a picture that isn't made
                self._on_trouble(str(error))
                return found
            moved = found + added.to(found)
            if hasattr(found, "pooled"):
                moved.pooled = found.pooled
            return moved

        return encode

    def _added(self, engine: TextEngine, taste: Taste, tokens: Tensor, fixes: Any) -> Tensor:
        """(B, T, H) float32."""
        state, skip, mark = engine.state(), engine.clip_skip(), _mark(engine.state())
        rows = []
        for number, ids in enumerate(tokens.reshape(-1, tokens.shape[-1])):
            vectors = _vectors(fixes[number] if fixes else (), engine.name, len(ids))
            key = (engine.name, tuple(ids.tolist()), skip, mark, tuple((p, float(v.sum())) for p, v in vectors.items()))
            if key not in self._kept:
                self._kept[key] = self._difference(state, ids[None], taste, skip, engine.norm_skipped, vectors)
                while len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
            rows.append(self._kept[key])
        return torch.cat(rows)

    def _difference(
        self,
        state: dict[str, Tensor],
        ids: Tensor,
        taste: Taste,
        skip: int,
        normed: bool,
        vectors: dict[tuple[int, int], Tensor],
    ) -> Tensor:
        settings = self._settings.settled(2 if self._several else 1)
        with torch.inference_mode(False), torch.autocast(ids.device.type, enabled=False):
            device = next(iter(state.values())).device
            copies = {name: value.detach().to(torch.float32, copy=True) for name, value in state.items()}
            model = text_model_from_state_dict({n: v for n, v in copies.items() if not n.endswith("position_ids")})
            found = adapt_text_weights(
                model,
                ids.to(device),
                taste,
                None,
                settings,
                clip_skip=skip,
                norm_skipped=normed,
                vectors=vectors,
            )
            return (found.tokens(settings.strength) - found.plain).float()


def _fits(taste: Taste, engine: TextEngine) -> bool:
    return taste.text_weights is not None and len(taste.text_weights) == engine.width


def _misfit(taste: Taste, engines: Sequence[TextEngine]) -> SteeringError | EncoderMismatchError:
    if taste.text_weights is None:
        return SteeringError(
            f"Cannot steer by the taste of {taste.person!r}: its file has no text side; expected one that was learned "
            "with a full CLIP, both towers. Learn it again with such an encoder."
        )
    wanted = " or ".join(_WIDTHS.get(one.width, f"a CLIP whose text side is {one.width} wide") for one in engines)
    return EncoderMismatchError(
        f"Cannot steer this model by the taste of {taste.person!r}: it was learned with {taste.encoder_name}, whose "
        f"text side is {len(taste.text_weights)} wide; expected one learned with {wanted}."
    )


def _vectors(fixes: Any, name: str, length: int) -> dict[tuple[int, int], Tensor]:
    """(H,) by (0, place): where a textual inversion stands."""
    found: dict[tuple[int, int], Tensor] = {}
    for offset, embedding in fixes:
        table = embedding.vec[name] if isinstance(embedding.vec, dict) else embedding.vec
        for number, vector in enumerate(table[: max(0, length - int(offset) - 1)]):
            found[0, int(offset) + 1 + number] = vector.detach().float()
    return found


def _mark(state: dict[str, Tensor]) -> str:
    """A hash of some numbers of every tensor: a LoRA that came or went changes nearly all of them."""
    digest = hashlib.sha256()
    for value in state.values():
        flat = value.detach().reshape(-1)
        few = flat[:: max(1, flat.numel() // _SAMPLES)][:_SAMPLES]
        digest.update(few.to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()
