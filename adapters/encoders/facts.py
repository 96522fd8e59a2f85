"""What a CLIP's tensors don't say about themselves: activation, heads, picture normalisation, the end token."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

__all__ = ["ClipFacts"]

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class ClipFacts:
    """Settings of a CLIP that aren't tensors; None means the standard for the shapes, see `settled`.

    Attributes:
        activation: "quick_gelu" (OpenAI) or "gelu" (most of LAION's).
        vision_heads: Attention heads of the image tower.
        text_heads: Attention heads of the text tower.
        mean: Red, green, blue mean of the picture normalisation, in [0, 1].
        std: Their standard deviation.
        eos_token_id: Token whose state is the text's vector.
    """

    activation: str | None = None
    vision_heads: int | None = None
    text_heads: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    eos_token_id: int | None = None

    @classmethod
    def from_config(cls, config: Mapping[str, Any], preprocessor: Mapping[str, Any] | None = None) -> ClipFacts:
        """Read transformers' CLIPConfig (config.json) and, when there, its preprocessor_config.json."""
        vision, text = config.get("vision_config") or {}, config.get("text_config") or {}
        eos = text.get("eos_token_id", 2)
        look = preprocessor or {}
        return cls(
            activation=vision.get("hidden_act") or text.get("hidden_act") or "quick_gelu",
            vision_heads=vision.get("num_attention_heads"),
            text_heads=text.get("num_attention_heads"),
            mean=tuple(float(value) for value in look.get("image_mean") or ()) or None,
            std=tuple(float(value) for value in look.get("image_std") or ()) or None,
            # 2 is the wrong id of old configs, which transformers ignores, too.
            eos_token_id=None if eos in (None, 2) else int(eos),
        )

    def settled(self, state: Mapping[str, Tensor]) -> ClipFacts:
        """Fill what is None with the standard for a canonical state's shapes.

        Source: the model configurations of OpenAI's CLIP and open_clip. Heads are 64 wide (32 in towers under 256,
        which only small models of one's own have), and image towers beyond ViT-L have 16. OpenAI trained up to ViT-L
        (width 1024) with quick_gelu; larger towers are LAION's, with gelu. LAION's own ViT-L and ViT-B look like
        OpenAI's: say `activation="gelu"` for them.
        """
        patches = state.get("vision_model.embeddings.patch_embedding.weight")
        tokens = state.get("text_model.embeddings.token_embedding.weight")
        width = int(patches.shape[0]) if patches is not None else 0
        text_width = int(tokens.shape[1]) if tokens is not None else 0
        large = width > 1024 or (width == 0 and text_width > 768)
        return ClipFacts(
            activation=self.activation or ("gelu" if large else "quick_gelu"),
            vision_heads=self.vision_heads or (16 if width > 1024 else _heads(width)),
            text_heads=self.text_heads or _heads(text_width),
            mean=self.mean or OPENAI_MEAN,
            std=self.std or OPENAI_STD,
            eos_token_id=self.eos_token_id,
        )

    def unusual(self, state: Mapping[str, Tensor]) -> str:
        """What changes image vectors and differs from the standard, as text; empty for standard models."""
        mine, standard = self.settled(state), ClipFacts().settled(state)
        names = ("activation", "vision_heads", "mean", "std")
        there, plain = dataclasses.asdict(mine), dataclasses.asdict(standard)
        odd = {name: there[name] for name in names if there[name] != plain[name]}
        return json.dumps(odd, sort_keys=True) if odd else ""


def _heads(width: int) -> int:
    sizes = (64, 32, 16, 8) if width >= 256 else (32, 16, 8)
    return next((width // head for head in sizes if width and width % head == 0), 1)
