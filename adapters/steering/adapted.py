"""A prompt, plain and moved: what every way of steering gives.

Shapes: C chunks of T = 77 tokens, H width of the text encoder, D joint width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from .objective import TasteObjective
from .settings import Movement

__all__ = ["Adapted", "Change", "Weights", "angle"]

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Change:
    """What was moved in a text encoder, float32; one of the four is given, by the way of steering.

    Attributes:
        weights: "encoder": weights under the names of the text model, in place of its own.
        inputs: "token_input": (C, T, H) vectors in place of those that the tokens stand for, before positions are
            added. rows: (C, T) bool, which of them were moved.
        delta: "eos_token": (C, T, H) to add to the token states that condition the image.
        pooled: "pooled": (1, D) projected vector in place of the first chunk's.
    """

    weights: Weights | None = None
    inputs: Tensor | None = None
    rows: Tensor | None = None
    delta: Tensor | None = None
    pooled: Tensor | None = None


@dataclass(frozen=True)
class Adapted:
    """A prompt, plain and adapted; any strength can be had from it at no cost.

    Attributes:
        plain: (1, C·T, H) token states of the untouched encoder, bit for bit what the host makes.
        adapted: (1, C·T, H) token states of the adapted encoder.
        plain_embedding: (C, D) projected pooled states, not normalised; by "pooled" only the first chunk's, (1, D),
            because no other reaches the image.
        adapted_embedding: (C, D) the same of the adapted encoder.
        objective: What was made smaller.
        change: What was moved; None when nothing was.
        limit: Degrees that the text embedding turns at most, whatever the strength.
        moves_tokens: False where token states keep their bits and only the embedding moves ("pooled").
    """

    plain: Tensor
    adapted: Tensor
    plain_embedding: Tensor
    adapted_embedding: Tensor
    objective: TasteObjective
    change: Change | None = None
    limit: float = 180.0
    moves_tokens: bool = True

    def tokens(self, strength: float = 1.0) -> Tensor:
        """Conditioning at a strength: plain + strength · (adapted − plain), over token states.

        Token states are interpolated, not weights: that needs no further run of the encoder, so a slider moves at once
        (A1111's aesthetic gradients do the same). 0 and 1 are exact; beyond 1 it extrapolates. Where that would turn
        the text embedding by more than `limit`, it goes as far as the limit.
        """
        strength = self.held(strength)
        if strength == 0:
            return self.plain
        if strength == 1:
            return self.adapted
        return self.plain + strength * (self.adapted - self.plain)

    def embedding(self, strength: float = 1.0) -> Tensor:
        """Projected pooled states at a strength, (C, D), float32 on the CPU, not normalised; 0 and 1 are exact.

        SDXL takes the first chunk's beside the tokens. It goes the same straight way as the tokens; where it moves
        alone, along the sphere, because its length tells the image as much as its direction does.
        """
        return self._at(self.held(strength))

    def held(self, strength: float) -> float:
        """The strength that is left of one asked for, so that the embedding turns by `limit` degrees at most."""
        if strength <= 0 or self._turned(strength) <= self.limit:
            return strength
        low, high = 0.0, strength  # on a straight line, and on half a circle, the angle to its start only grows
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (middle, high) if self._turned(middle) <= self.limit else (low, middle)
        return low

    def movement(self, strength: float = 1.0) -> Movement:
        """How far the prompt is moved at a strength."""
        before, after = F.normalize(self.plain_embedding, dim=-1), self._unit(self.held(strength))
        change = (self.tokens(strength).float() - self.plain.float()).norm() / self.plain.float().norm()
        return Movement(
            cosine=float((before * after).sum(dim=-1).mean().clamp(-1, 1)),
            degrees=angle(before, after),
            token_change=float(change),
            objective_before=float(self.objective.loss(before)),
            objective_after=float(self.objective.loss(after)),
            strength=strength,
        )

    def _unit(self, strength: float) -> Tensor:
        return F.normalize(self._at(strength), dim=-1)

    def _at(self, strength: float) -> Tensor:
        if strength == 0:
            return self.plain_embedding
        if strength == 1:
            return self.adapted_embedding
        if self.moves_tokens:
            return self.plain_embedding + strength * (self.adapted_embedding - self.plain_embedding)
        return _along_sphere(self.plain_embedding, self.adapted_embedding, strength)

    def _turned(self, strength: float) -> float:
        return angle(F.normalize(self.plain_embedding, dim=-1), self._unit(strength))


def _along_sphere(start: Tensor, end: Tensor, part: float) -> Tensor:
    """Rows of (C, D) on the great circle from `start` to `end`, of the start's length, at most half a turn away."""
    length, first = start.norm(dim=-1, keepdim=True), F.normalize(start, dim=-1)
    second = F.normalize(end, dim=-1)
    along = (first * second).sum(dim=-1, keepdim=True)
    aside = second - along * first
    turned = (part * torch.atan2(aside.norm(dim=-1, keepdim=True), along)).clamp(max=math.pi)
    moved: Tensor = length * (turned.cos() * first + turned.sin() * F.normalize(aside, dim=-1))
    return moved


def angle(before: Tensor, after: Tensor) -> float:
    """Mean angle in degrees between the rows of two (C, D) of unit norm; exact for small angles, too."""
    halves = torch.atan2((before - after).norm(dim=-1), (before + after).norm(dim=-1))
    return math.degrees(2 * float(halves.mean()))
