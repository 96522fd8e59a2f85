"""Prompts to conditioning for a diffusers pipeline, plain or moved along a taste.

Shapes: C chunks of T = 77 tokens, H width of the text encoder, D joint width.
"""

from __future__ import annotations

import dataclasses
import threading
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor

from ..encoders import ImageTextEncoder
from ..errors import EncoderMismatchError, SteeringError
from .adapted import Adapted
from .descent import Cancelled, OnStep
from .objective import TasteLike, taste_key
from .settings import Movement, SteeringSettings
from .weights import adapt_text_weights

__all__ = ["TextConditioner"]

KEPT = 32  # prompts


class TextConditioner:
    """The text side of a Stable Diffusion 1.5 pipeline.

    A prompt of up to 75 tokens gives bit for bit what diffusers' own `encode_prompt` gives; a longer one is cut into
    chunks of 75, each with its own start and end token, instead of being cut off.

    Attributes:
        tokenizer: transformers' CLIPTokenizer.
        text_encoder: transformers' CLIPTextModel; never changed.
        encoder: Which CLIP brings text and images together; its projection is used and its identity checked.
        clip_skip: Layers left out at the end, as diffusers counts.
    """

    def __init__(
        self, tokenizer: Any, text_encoder: Any, encoder: ImageTextEncoder | None = None, clip_skip: int = 0
    ) -> None:
        self.tokenizer, self.text_encoder, self.encoder, self.clip_skip = tokenizer, text_encoder, encoder, clip_skip
        self._kept: OrderedDict[tuple[Any, ...], Adapted] = OrderedDict()
        self._lock = threading.Lock()

    def token_ids(self, prompt: str, chunks: int = 1) -> Tensor:
        """Token ids (C, 77) of a prompt, with at least `chunks` rows; missing rows are empty prompts."""
        length = int(self.tokenizer.model_max_length)
        first, last = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        padding = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else last
        words: list[int] = self.tokenizer(prompt, add_special_tokens=False, verbose=False)["input_ids"]
        room = length - 2
        parts = [words[start : start + room] for start in range(0, len(words), room)]
        parts += [[] for _ in range(max(chunks, 1) - len(parts))]
        rows = [[first, *part, last] + [padding] * (room - len(part)) for part in parts]
        return torch.tensor(rows, dtype=torch.long, device=self._device)

    def plain(self, prompt: str, chunks: int = 1) -> Tensor:
        """Conditioning (1, 77·C, H) of a prompt, C as many as it needs and at least `chunks`."""
        ids = self.token_ids(prompt, chunks)
        with torch.no_grad():
            out = self.text_encoder(ids, output_hidden_states=self.clip_skip > 0)
            tokens: Tensor = out.last_hidden_state
            if self.clip_skip:
                norm = next(m for n, m in self.text_encoder.named_modules() if n.endswith("final_layer_norm"))
                tokens = norm(out.hidden_states[-(self.clip_skip + 1)])
        return tokens.reshape(1, -1, tokens.shape[-1])

    def steered(
        self,
        prompt: str,
        taste: TasteLike,
        settings: SteeringSettings | None = None,
        on_step: OnStep | None = None,
        cancelled: Cancelled | None = None,
    ) -> tuple[Tensor, Movement]:
        """Conditioning of a prompt moved along a taste, and how far it was moved.

        What was adapted is kept by prompt, taste and settings, so another strength comes at once.

        Args:
            prompt: The conditional prompt; an empty one is moved, too. Leave the negative prompt plain.
            taste: Learned with this conditioner's encoder.
            settings: How; its strength 0 gives the bits of `plain`.
            on_step: Called with (steps done, steps).
            cancelled: Asked before every step.

        Returns:
            (1, 77·C, H) in the dtype of the text encoder, and the Movement at this strength.

        Raises:
            EncoderMismatchError: the taste was learned with another encoder.
            SteeringError: there is no encoder with a text projection, or the settings are wrong.
            CancelledError: `cancelled` said so.
        """
        settings = settings or SteeringSettings()
        adapted = self.adapted(prompt, taste, settings, on_step, cancelled)
        return adapted.tokens(settings.strength), adapted.movement(settings.strength)

    def adapted(
        self,
        prompt: str,
        taste: TasteLike,
        settings: SteeringSettings,
        on_step: OnStep | None = None,
        cancelled: Cancelled | None = None,
    ) -> Adapted:
        """What `steered` makes before a strength is chosen; kept for the last prompts."""
        self.check(taste)
        strength, limit = 1.0 if settings.strength > 0 else 0.0, settings.limit
        settings = dataclasses.replace(settings, strength=strength, limit=180.0)  # both act on what is kept
        key = (prompt, taste_key(taste), settings)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return dataclasses.replace(self._kept[key], limit=limit)
            found = adapt_text_weights(
                self.text_encoder,
                self.token_ids(prompt),
                taste,
                None if self.encoder is None else self.encoder.text_projection,
                settings,
                clip_skip=self.clip_skip,
                logit_scale=100.0 if self.encoder is None else self.encoder.logit_scale,
                on_step=on_step,
                cancelled=cancelled,
            )
            # Weights are as large as the text encoder and no longer needed: only token states stay.
            self._kept[key] = dataclasses.replace(found, change=None)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return dataclasses.replace(self._kept[key], limit=limit)

    def check(self, taste: TasteLike) -> None:
        """Whether a taste can move this text encoder.

        Raises:
            EncoderMismatchError: it was learned with another encoder.
            SteeringError: no encoder, or one without a text projection.
        """
        if self.encoder is None:
            if getattr(taste, "text_weights", None) is None:
                raise SteeringError(
                    "Cannot steer: no encoder was given for this model; expected the CLIP that its text encoder "
                    "belongs to. SD1.5's is open_clip:ViT-L-14/openai."
                )
            return
        if taste.encoder != self.encoder.identity:
            raise EncoderMismatchError(
                f"Cannot steer with this taste: it was learned with {taste.encoder_name or 'another encoder'} "
                f"({taste.encoder[:12]}); expected {self.encoder.name} ({self.encoder.identity[:12]}), which belongs "
                "to this model. Choose that encoder and fit the taste again."
            )
        if self.encoder.text_projection is None:
            raise SteeringError(
                f"Cannot steer: {self.encoder.name} has no text projection; expected a full CLIP with both towers. "
                "Load one, such as open_clip:ViT-L-14/openai for SD1.5."
            )

    @property
    def _device(self) -> torch.device:
        device: torch.device = next(self.text_encoder.parameters()).device
        return device
