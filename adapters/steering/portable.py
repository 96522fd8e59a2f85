"""A taste as a word: input vectors that any host puts into a prompt, and the text towers that they are made for.

Shapes: P prompts, T tokens, n vectors, H width of a text tower, D joint width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..errors import SteeringError
from .objective import TasteLike

__all__ = ["MOST_VECTORS", "PortableEmbedding", "PromptRows", "TowerText", "prompt_rows"]

MOST_VECTORS = 32  # of the 75 places of a prompt


@dataclass(frozen=True)
class PortableEmbedding:
    """Input vectors for the text towers of one family of models: a textual inversion (Gal et al. 2022).

    Attributes:
        vectors: (n, H) float32 on the CPU by tower: "clip_l" alone for models with one text encoder, whatever its
            width; "clip_l" and "clip_g" for SDXL.
        person: Whose taste; "" when nobody is to be named.
        base: "sd15", "sdxl", ... or "" when unknown.
        effect: On prompts that it wasn't trained on, means: "degrees", how far it turns their embedding along the
            taste, and "kept", the cosine that is left to the plain embedding when the taste's own direction is taken
            out (1: the prompt says the same, 0: nothing of it is left).
        encoders: Identity by tower of the encoder that the taste belongs to; towers that only stand by have none.
        answers: How many answers the taste was learned from.
        created: ISO 8601 in UTC, of the taste.
    """

    vectors: Mapping[str, Tensor]
    person: str = ""
    base: str = ""
    effect: Mapping[str, float] = field(default_factory=dict)
    encoders: Mapping[str, str] = field(default_factory=dict)
    answers: int = 0
    created: str = ""

    @property
    def count(self) -> int:
        """n: places that it takes in a prompt."""
        return len(next(iter(self.vectors.values())))


@dataclass(frozen=True)
class TowerText:
    """One frozen text tower of a host, as training an embedding takes it.

    Attributes:
        module: transformers' `CLIPTextModel`, or `TextTower`; gives `last_hidden_state`. Never changed.
        tokenize: Text to token ids (chunks, 77), each row with its start and end token.
        projection: (D, H), x = projection @ state at the end token; None where the host has none.
        encoder: Identity of the CLIP that brings it together with images; "" when unknown.
        logit_scale: Of that CLIP.
        placed: Has the module where it is to work, for as long as the context lasts.
    """

    module: nn.Module
    tokenize: Callable[[str], Tensor]
    projection: Tensor | None = None
    encoder: str = ""
    logit_scale: float = 100.0
    placed: Callable[[], AbstractContextManager[None]] = nullcontext

    def takes(self, taste: TasteLike) -> bool:
        """Whether a taste moves this tower: by its encoder's identity; where that is unknown, by widths."""
        if self.encoder:
            return taste.encoder == self.encoder
        if self.projection is not None:
            return int(self.projection.shape[0]) == len(taste.weights)
        side = getattr(taste, "text_weights", None)
        return side is not None and len(side) == self.width

    @property
    def table(self) -> Tensor:
        """(vocabulary, H) what the tokens stand for, in float32.

        Raises:
            SteeringError: the text encoder is none of CLIP's.
        """
        named = self.module.named_parameters()
        found = next((weight for name, weight in named if name.endswith("token_embedding.weight")), None)
        if found is None:
            raise SteeringError("Cannot make an embedding: this text encoder is none of CLIP's. Choose another model.")
        return found.detach().float()

    @property
    def width(self) -> int:
        """H."""
        return int(self.table.shape[1])


@dataclass(frozen=True)
class PromptRows:
    """Prompts with room for vectors behind them, cut to the longest.

    Attributes:
        ids: (P, T); in the vectors' places stands the start token.
        first: (P,) where the first vector goes; the end token comes right after the last one.
        end: (P,) where that is.
    """

    ids: Tensor
    first: Tensor
    end: Tensor


def prompt_rows(tokenize: Callable[[str], Tensor], prompts: Sequence[str], vectors: int) -> PromptRows:
    """Lay out "<prompt>, <vectors>" for each prompt; an over-long one is cut so that the vectors stay in.

    What comes after the end token plays no part (attention is causal), so rows are as short as can be. With 0 vectors
    the prompts stand alone, without the comma.
    """
    blank = tokenize("")[0].tolist()
    start, end, comma, length = blank[0], blank[1], int(tokenize(",")[0][1]), len(blank)
    rows, places = [], []
    for prompt in prompts:
        found = tokenize(prompt.rstrip().rstrip(",") if vectors else prompt)[0].tolist()
        words = found[1 : found.index(end, 1)]
        if vectors and words:
            words = [*words[: length - 3 - vectors], comma]
        places.append(1 + len(words))
        rows.append([start, *words, *[start] * vectors, end])
    longest = max(len(row) for row in rows)
    ids = torch.tensor([row + [end] * (longest - len(row)) for row in rows], dtype=torch.long)
    first = torch.tensor(places, dtype=torch.long)
    return PromptRows(ids, first, first + vectors)
