"""One tokenizer and text encoder of a diffusers pipeline: prompts to token ids, ids to states.

Shapes: C chunks of T = 77 tokens, H width of the text encoder, D joint width.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..encoders import ImageTextEncoder
from .objective import TasteLike

__all__ = ["PromptTower", "fitting_encoder"]

# The CLIPs that text encoders of these widths come from: SD1.x and SDXL's first, SD2.x, SDXL's second.
_FITTING = {
    768: "open_clip:ViT-L-14/openai",
    1024: "open_clip:ViT-H-14/laion2b_s32b_b79k",
    1280: "open_clip:ViT-bigG-14/laion2b_s39b_b160k",
}


class PromptTower:
    """A tokenizer, its text encoder, and the CLIP that it belongs to; none of them is ever changed.

    Attributes:
        name: "clip_l" or "clip_g", as ComfyUI and embedding files call it.
        tokenizer: transformers' CLIPTokenizer.
        text_encoder: transformers' CLIPTextModel or CLIPTextModelWithProjection.
        encoder: Brings text and images together; None can steer only by tastes that carry their text side, or where
            the text encoder has a projection of its own.
    """

    def __init__(self, name: str, tokenizer: Any, text_encoder: Any, encoder: ImageTextEncoder | None = None) -> None:
        self.name, self.tokenizer, self.text_encoder, self.encoder = name, tokenizer, text_encoder, encoder

    @property
    def module(self) -> nn.Module:
        """The text model inside, which gives states and the pooled state before any projection."""
        core: nn.Module = self.text_encoder.text_model if self.own_projection is not None else self.text_encoder
        return core

    @property
    def own_projection(self) -> Tensor | None:
        """(D, H) that comes with the text encoder, as SDXL's larger one has it, or None."""
        found = getattr(self.text_encoder, "text_projection", None)
        return None if found is None else found.weight

    @property
    def width(self) -> int:
        """H."""
        return int(self.text_encoder.config.hidden_size)

    @property
    def device(self) -> torch.device:
        """Where the text encoder is at this moment."""
        device: torch.device = next(self.text_encoder.parameters()).device
        return device

    def projection_for(self, taste: TasteLike) -> Tensor | None:
        """(D, H) float32 by which text meets this taste: the model's own before that of the encoder."""
        dim = len(taste.weights)
        for found in (self.own_projection, None if self.encoder is None else self.encoder.text_projection):
            if found is not None and found.shape[0] == dim:
                return found.detach().float()
        return None

    def token_ids(self, prompt: str, chunks: int = 1) -> Tensor:
        """Token ids (C, 77) of a prompt, with at least `chunks` rows; missing rows are empty prompts."""
        room = int(self.tokenizer.model_max_length) - 2
        first, last = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        # SDXL's second tokenizer fills up with "!", all others with the end token
        padding = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else last
        words: list[int] = self.tokenizer(self._spelled(prompt), add_special_tokens=False, verbose=False)["input_ids"]
        parts = [words[start : start + room] for start in range(0, len(words), room)]
        parts += [[] for _ in range(max(chunks, 1) - len(parts))]
        rows = [[first, *part, last] + [padding] * (room - len(part)) for part in parts]
        return torch.tensor(rows, dtype=torch.long, device=self.device)

    def states(self, ids: Tensor, clip_skip: int, normed: bool) -> tuple[Tensor, Tensor | None]:
        """Token states (1, 77·C, H) of token ids, and the projected pooled state (1, D) of the first chunk or None.

        Args:
            ids: (C, 77).
            clip_skip: Layers left out at the end.
            normed: Whether a skipped layer's states go through the final norm.
        """
        with torch.no_grad():
            out = self.text_encoder(ids, output_hidden_states=clip_skip > 0)
            tokens: Tensor = out.last_hidden_state
            if clip_skip:
                tokens = out.hidden_states[-(clip_skip + 1)]
                if normed:
                    tokens = self._final_norm(tokens)
        pooled = out.text_embeds[:1] if self.own_projection is not None else None
        return tokens.reshape(1, -1, tokens.shape[-1]), pooled

    @contextlib.contextmanager
    def on(self, device: torch.device | None) -> Iterator[None]:
        """Have the text encoder on a device, and back where it was afterwards; None leaves it where it is."""
        home = self.device
        if device is None or home == device:
            yield
            return
        try:
            self.text_encoder.to(device)
            yield
        finally:
            self.text_encoder.to(home)

    @property
    def _final_norm(self) -> nn.Module:
        norm: nn.Module = next(m for n, m in self.text_encoder.named_modules() if n.endswith("final_layer_norm"))
        return norm

    def _spelled(self, prompt: str) -> str:
        """With every textual inversion of several vectors written out, one word a vector, as diffusers does."""
        added = self.tokenizer.added_tokens_encoder
        for token in sorted({token for token in added if f"{token}_1" in added and token in prompt}):
            number, words = 1, [token]
            while f"{token}_{number}" in added:
                words.append(f"{token}_{number}")
                number += 1
            prompt = prompt.replace(token, " ".join(words))
        return prompt


def fitting_encoder(width: int) -> str:
    """What to load for a text encoder of that width, for messages."""
    return _FITTING.get(width, f"the CLIP that a text encoder of width {width} comes from")
