"""The ways into a denoiser: what of a text encoder is moved so that the prompt's embedding follows a taste.

    encoder      all weights, a copy made for this prompt            G1: Gallego 2022, arXiv:2209.12330
    token_input  the vectors that the prompt's words stand for       G3: as in textual inversion, arXiv:2208.01618
    eos_token    the end token's output state, in closed form        G2: Gallego 2023, arXiv:2308.07929
    pooled       x itself, in closed form, where a model takes it    G4: the same

Every way has variables and the embedding x as a function of them; `descent.py` does the rest.

Shapes: C chunks of T = 77 tokens, H width of the text encoder, D joint width.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from .adapted import Change
from .descent import Adam, Descent, Sphere, Steps
from .text_model import TextModel

__all__ = ["Way", "way_of"]


class Way(Protocol):
    """What a way of steering is."""

    steps: Steps
    moves_tokens: bool

    def embedding(self) -> Tensor:
        """(C, D) embeddings, not normalised, with their graph; without it in no-grad mode."""

    def change(self) -> Change:
        """What was moved."""


def way_of(method: str, model: TextModel) -> Way:
    """The way of that name, one of `METHODS`, for a prompt."""
    ways: dict[str, type[_Encoder] | type[_TokenInput] | type[_EosToken] | type[_Pooled]] = {
        "encoder": _Encoder,
        "token_input": _TokenInput,
        "eos_token": _EosToken,
        "pooled": _Pooled,
    }
    return ways[method](model)


class _Encoder:
    """All weights, by Adam.

    Of the table of words, only the rows that the prompt's words stand for: the others' gradient is zero, so Adam would
    leave them as they are, at the cost of a third of all weights (CLIP-L) or nearly all of them (small ones).
    """

    moves_tokens = True

    def __init__(self, model: TextModel) -> None:
        self._model, self._weights = model, model.start(copies=True)
        self._name = next(name for name in self._weights if name.endswith("token_embedding.weight"))
        table = self._weights[self._name]
        self._used, self._places = torch.unique(model.ids, return_inverse=True)
        self._rows = table[self._used].requires_grad_()
        self._inputs = model.inputs(self._weights)
        # A vector that stands in a word's place (textual inversion) is nobody's weight and stays.
        self._fixed = (self._inputs != table[model.ids]).any(dim=-1, keepdim=True)
        others = [weight.requires_grad_() for name, weight in self._weights.items() if name != self._name]
        self.steps: Steps = Adam([self._rows, *others], 1e-4)

    def embedding(self) -> Tensor:
        inputs = torch.where(self._fixed, self._inputs, self._rows[self._places])
        return self._model.embedding(self._weights, ("token_embedding", inputs))

    def change(self) -> Change:
        table = self._weights[self._name].index_copy(0, self._used, self._rows.detach())
        return Change(weights={name: weight.detach() for name, weight in {**self._weights, self._name: table}.items()})


class _TokenInput:
    """The input vectors of a chunk's words, by Adam; weights stay.

    The start token stays, too: its state is the same for all prompts, and models lean on that. The end token stays
    where there are words, so that they carry the taste into all later states; in a chunk without any, it is moved.
    """

    moves_tokens = True

    def __init__(self, model: TextModel) -> None:
        self._model, self._weights = model, model.start()
        self._inputs = model.inputs(self._weights)
        ends = model.ends(model.states(self._weights))[:, None]
        places = torch.arange(self._inputs.shape[1], device=ends.device)[None]
        self._rows = ((places > 0) & (places < ends)) | ((ends <= 1) & (places == ends))
        self._delta = torch.zeros_like(self._inputs).requires_grad_()
        self.steps: Steps = Adam([self._delta], 1e-3)

    def embedding(self) -> Tensor:
        return self._model.embedding(self._weights, ("token_embedding", self._moved()))

    def change(self) -> Change:
        return Change(inputs=self._moved().detach(), rows=self._rows)

    def _moved(self) -> Tensor:
        # where, not +: rows that stay keep their bits
        return torch.where(self._rows[..., None], self._inputs + self._delta, self._inputs)


class _EosToken:
    """The states that condition the image, by plain gradient steps.

    With the last layer's states x hangs on the end token's row alone, and ∇h = W^T ∇x is a closed form: 1 of 77 rows
    moves. With an earlier layer's (clip skip), the gradient runs through the layers after it and reaches every row up
    to the end token.
    """

    moves_tokens = True

    def __init__(self, model: TextModel) -> None:
        self._model, self._weights = model, model.start()
        found = model.states(self._weights)
        self._states, self._ends = model.layer_states(found), model.ends(found)
        self._delta = torch.zeros_like(self._states).requires_grad_()
        self.steps: Steps = Descent(self._delta, float(found.pooler_output.norm()) / 20)

    def embedding(self) -> Tensor:
        moved = self._states + self._delta
        if self._model.layer is not None:
            return self._model.embedding(self._weights, (self._model.layer, moved))
        return self._model.project(moved[torch.arange(len(moved), device=moved.device), self._ends])

    def change(self) -> Change:
        delta = self._delta.detach()
        if self._model.layer is not None:
            plain, moved = (self._model.normed(s, self._weights) for s in (self._states, self._states + delta))
            delta = moved - plain
        return Change(delta=delta)


class _Pooled:
    """x of the first chunk, the one that a model takes, along the sphere of its length; tokens keep their bits.

    With u = x / ‖x‖ the closed form is ∇u = s (p − 1)(y_chosen − y_rejected) less its part along u: no text encoder
    takes part in it, so a step is microseconds.
    """

    moves_tokens = False

    def __init__(self, model: TextModel) -> None:
        x = model.own_embedding()[:1]
        self._length = x.norm(dim=-1, keepdim=True)
        self._unit = F.normalize(x, dim=-1).requires_grad_()
        self.steps: Steps = Sphere(self._unit, 5.0)

    def embedding(self) -> Tensor:
        moved: Tensor = self._length * self._unit
        return moved

    def change(self) -> Change:
        return Change(pooled=self.embedding().detach())
