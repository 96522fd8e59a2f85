"""Prompts in a frozen text tower as a function of the vectors behind them, and where they are to go.

Shapes: P prompts, T tokens, n vectors, H width of a text tower, D joint width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from .objective import TasteLike, TasteObjective
from .portable import PromptRows, TowerText, prompt_rows
from .text_model import TextModel
from .weights import side_objective

__all__ = ["Aim", "Batch", "Course"]

_PIECES = 5  # steps of the closed form on the way to x*


@dataclass(frozen=True)
class Aim:
    """What is trained, and for what: see `train_embedding`; `turn` is in radians here."""

    vectors: int
    steps: int
    turn: float
    keep: float
    seed: int


class Course:
    """One tower, where its prompts are and where they are to go."""

    def __init__(self, tower: TowerText, taste: TasteLike | None, aim: Aim) -> None:
        self.tower, self.aim = tower, aim
        self.objective: TasteObjective | None = None
        self.matrix = None if tower.projection is None else tower.projection.detach().clone().float()
        if taste is not None:
            self.objective, self.matrix = side_objective(taste, tower.projection, tower.logit_scale)
        self.device = next(tower.module.parameters()).device
        self.weights = TextModel(tower.module, torch.zeros(1, 2, dtype=torch.long), None).start()

    def batch(self, prompts: Sequence[str]) -> Batch:
        """Prompts with room for the vectors, and their plain x and ways along the taste."""
        plain = self._model(prompt_rows(self.tower.tokenize, prompts, 0))
        start = plain.embedding(None)
        way = None
        if self.objective is not None:
            target = _turned(start, self.objective.to(start.device), self.aim.turn)
            way = F.normalize(target - (target * start).sum(dim=-1, keepdim=True) * start, dim=-1)
        return Batch(self._model(prompt_rows(self.tower.tokenize, prompts, self.aim.vectors)), start, way)

    def effect(self, prompts: Sequence[str], vectors: Tensor) -> tuple[float, float]:
        """Mean degrees along the taste, and mean cosine to the plain x beside it."""
        batch = self.batch(prompts)
        degrees, rest, along = batch.parts(batch.rows.embedding(vectors))
        kept = along / torch.hypot(along, rest.norm(dim=-1))
        return math.degrees(float(degrees.mean())), float(kept.mean())

    def _model(self, rows: PromptRows) -> _Rows:
        moved = PromptRows(rows.ids.to(self.device), rows.first.to(self.device), rows.end.to(self.device))
        matrix = None if self.matrix is None else self.matrix.to(self.device)
        return _Rows(TextModel(self.tower.module, moved.ids, matrix), self.weights, moved)


@dataclass(frozen=True)
class _Rows:
    """Prompts in a tower, as a function of the vectors behind them."""

    model: TextModel
    weights: dict[str, Tensor]
    rows: PromptRows

    def embedding(self, vectors: Tensor | None) -> Tensor:
        """(P, D) of unit norm."""
        inputs = self.model.inputs(self.weights)
        lines = torch.arange(len(inputs), device=inputs.device)
        if vectors is not None:
            places = self.rows.first[:, None] + torch.arange(len(vectors), device=inputs.device)
            inputs = inputs.index_put((lines[:, None], places), vectors.expand(len(inputs), -1, -1))
        states: Tensor = self.model.states(self.weights, ("token_embedding", inputs)).last_hidden_state
        return F.normalize(self.model.project(states[lines, self.rows.end]), dim=-1)


@dataclass(frozen=True)
class Batch:
    """Prompts, their plain x (P, D), and unit ways (P, D) along the taste; None where no taste belongs."""

    rows: _Rows
    start: Tensor
    way: Tensor | None

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Radians along the taste (P,), what is neither the prompt nor the taste (P, D), and x · x₀ (P,)."""
        along = (x * self.start).sum(dim=-1)
        if self.way is None:
            return torch.zeros_like(along), x - self.start, along
        aside = (x * self.way).sum(dim=-1)
        return torch.atan2(aside, along), x - along[:, None] * self.start - aside[:, None] * self.way, along

    def loss(self, vectors: Tensor, aim: Aim) -> Tensor:
        turned, rest, _ = self.parts(self.rows.embedding(vectors))
        lost = rest.square().sum(dim=-1).mean()
        return lost if self.way is None else (turned.mean() - aim.turn).square() + aim.keep * lost


def _turned(x: Tensor, objective: TasteObjective, radians: float) -> Tensor:
    """Rows of x (P, D), unit, moved along the closed form's gradient on the sphere by an angle in all."""
    each = radians / _PIECES
    for _ in range(_PIECES):
        gradient = objective.gradient(x)
        gradient = gradient - (gradient * x).sum(dim=-1, keepdim=True) * x
        x = F.normalize(math.cos(each) * x - math.sin(each) * F.normalize(gradient, dim=-1), dim=-1)
    return x
