"""A host's text encoder, run beside the host: with other weights, other input vectors or another layer's states.

Shapes: C chunks of T = 77 tokens, H width of the text encoder, D joint width.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from ..errors import ShapeError
from .adapted import Change, Weights

__all__ = ["TextModel", "Vectors"]

Vectors = Mapping[tuple[int, int], Tensor]
_TOKENS, _NORM, _LAYERS, _FIRST = "token_embedding", "final_layer_norm", "encoder.layers", "embeddings"


class TextModel:
    """One text model and one prompt. The model itself is never touched, and may be in use in another thread.

    Attributes:
        ids: (C, T) token ids.
        layer: Name of the layer whose states condition the image; None is the last one, after the final norm.
    """

    def __init__(
        self,
        model: nn.Module,
        ids: Tensor,
        matrix: Tensor | None = None,
        clip_skip: int = 0,
        norm_skipped: bool = True,
        vectors: Vectors | None = None,
    ) -> None:
        """Prepare a model.

        Args:
            model: transformers' `CLIPTextModel`, or `TextTower`.
            ids: (C, T).
            matrix: (D, H) projection of pooled states; None leaves them as they are (D = H).
            clip_skip: Layers left out at the end of the conditioning; 1 is the penultimate layer.
            norm_skipped: Whether a skipped layer's states go through the final norm.
            vectors: (H,) by (chunk, place): what stands there instead of a token, as a textual inversion does.

        Raises:
            ShapeError: the model has no such layer.
        """
        self.model, self.clip_skip, self.norm_skipped = model, clip_skip, norm_skipped
        shared = [*model.parameters(), *model.buffers()]
        # A second body around the same tensors: functional_call swaps tensors in a module while it runs, and must not
        # do that to the host's while another thread uses it. What is put into it are hooks on its own modules.
        self._twin = copy.deepcopy(model, memo={id(tensor): tensor for tensor in shared})
        device = next(model.parameters()).device
        self.ids = ids.to(device)
        self.matrix = None if matrix is None else matrix.to(device)
        self._vectors = {place: vector.to(device, torch.float32) for place, vector in (vectors or {}).items()}
        self._buffers = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
        self._put: tuple[str, Tensor] | None = None
        self._in_tuples = False
        layers = {n for n, _ in self._twin.named_modules() if n.rpartition(".")[0].endswith(_LAYERS)}
        if not 0 <= clip_skip <= len(layers):
            raise ShapeError(
                f"Cannot steer: {clip_skip} layers are skipped of {len(layers)}; expected no more than there are. "
                "Choose another clip skip."
            )
        last = len(layers) - 1 - clip_skip
        self.layer = None if not clip_skip else f"{_LAYERS}.{last}" if last >= 0 else _FIRST
        for name, module in self._twin.named_modules():
            for place in (_TOKENS, self.layer):
                if place is not None and name.endswith(place):
                    module.register_forward_hook(self._hook(place))
            if any(name.endswith(f"{_LAYERS}.{number}") for number in range(last + 1)):
                module.forward = self._idle(module)

    @property
    def width(self) -> int:
        """H."""
        return next((int(p.shape[1]) for n, p in self.model.named_parameters() if n.endswith(f"{_TOKENS}.weight")), 0)

    def start(self, copies: bool = False) -> dict[str, Tensor]:
        """The model's weights in float32; `copies` for who moves them. Inference tensors are copied in any case."""
        return {
            name: weight.detach().to(torch.float32, copy=copies or weight.is_inference())
            for name, weight in self.model.named_parameters()
        }

    def states(self, weights: Weights, put: tuple[str, Tensor] | None = None) -> Any:
        """Run with these weights, and with `put` = (place, what it gives): "token_embedding" or `layer`."""
        self._put = put
        try:
            return functional_call(
                self._twin, {**self._buffers, **weights}, (), {"input_ids": self.ids, "output_hidden_states": True}
            )
        finally:
            self._put = None

    def inputs(self, weights: Weights) -> Tensor:
        """(C, T, H) what the tokens stand for, before positions are added."""
        table = next(weight for name, weight in weights.items() if name.endswith(f"{_TOKENS}.weight"))
        return self._with_vectors(F.embedding(self.ids, table))

    def project(self, pooled: Tensor) -> Tensor:
        """(C, H) pooled states to (C, D) embeddings."""
        return pooled if self.matrix is None else pooled @ self.matrix.T

    def embedding(self, weights: Weights, put: tuple[str, Tensor] | None = None) -> Tensor:
        """(C, D) projected pooled states."""
        pooled: Tensor = self.states(weights, put).pooler_output
        return self.project(pooled)

    def own_embedding(self) -> Tensor:
        """(C, D) float32, by the model itself in its own precision."""
        if self._vectors:
            return self.embedding(self.start())
        pooled: Tensor = self.model(input_ids=self.ids, output_hidden_states=True).pooler_output
        return self.project(pooled.float())

    def ends(self, states: Any) -> Tensor:
        """(C,) where each chunk is pooled: at its end token. Read from the model's answer, which has its own rule."""
        same = (states.last_hidden_state == states.pooler_output[:, None]).all(dim=-1)
        found: Tensor = same.int().argmax(dim=-1)
        return found

    def layer_states(self, states: Any) -> Tensor:
        """(C, T, H) states of the layer that conditions, before the norm of a skipped one."""
        tokens: Tensor = states.hidden_states[-(self.clip_skip + 1)] if self.clip_skip else states.last_hidden_state
        return tokens

    def normed(self, tokens: Tensor, weights: Weights) -> Tensor:
        """Those states as they condition the image."""
        if not (self.clip_skip and self.norm_skipped):
            return tokens
        scale, shift = (
            next(w for n, w in weights.items() if n.endswith(f"{_NORM}.{end}")) for end in ("weight", "bias")
        )
        return F.layer_norm(tokens, tokens.shape[-1:], scale, shift, 1e-5)

    def conditioning(self, change: Change | None = None) -> Tensor:
        """(1, C·T, H); None runs the model itself, in its own precision."""
        if change is None or change.delta is not None:
            weights: Weights = dict(self.model.named_parameters())
            states = self.model(input_ids=self.ids, output_hidden_states=True)
        elif change.weights is not None:
            weights, states = change.weights, self.states(change.weights)
        else:
            assert change.inputs is not None
            weights = self.start()
            states = self.states(weights, (_TOKENS, change.inputs))
        tokens = self.normed(self.layer_states(states), weights).detach()
        if change is not None and change.delta is not None:
            tokens = tokens.float() + change.delta
        return tokens.reshape(1, -1, tokens.shape[-1])

    def _idle(self, module: nn.Module) -> Any:
        """A layer's forward that does nothing while the states after it are put in: 31 of 32 in SDXL's larger tower."""
        kind, layer, mine = type(module), weakref.ref(module), weakref.proxy(self)

        def forward(states: Any, *args: Any, **more: Any) -> Any:
            if mine._put is not None and mine._put[0] == mine.layer:
                return (states,) if mine._in_tuples else states
            found = kind.forward(layer(), states, *args, **more)
            mine._in_tuples = isinstance(found, tuple)  # as older transformers give them
            return found

        return forward

    def _hook(self, place: str) -> Any:
        mine = weakref.proxy(self)  # in a circle of references the copy's weights, gigabytes, would stay until a sweep

        def replace(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            put = mine._put
            if put is not None and put[0] == place:
                return (put[1], *output[1:]) if isinstance(output, tuple) else put[1]
            return mine._with_vectors(output) if place == _TOKENS else output

        return replace

    def _with_vectors(self, inputs: Tensor) -> Tensor:
        if not self._vectors:
            return inputs
        inputs = inputs.clone()
        for (chunk, place), vector in self._vectors.items():
            inputs[chunk, place] = vector
        return inputs
