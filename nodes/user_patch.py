"""A user inside ComfyUI's denoiser: what Apply User hangs into a model's runs. Imports nothing of ComfyUI.

ComfyUI calls two lists of functions in each cross-attention: `attn2_patch` before the query's projection, and
`attn2_output_patch` after the output's. Each step, a pair is put around whatever others have there: first in the one
list, so that it sees the block's own hidden state, and last in the other, so that it adds to all that the block gives.
What replaces the attention in between stays. That is why users, IP-Adapters and their like go together in any order.

A block gives away neither its query's nor its output's projection, so both are folded into the user's keys and values,
once a run (comfyui.md D4). The projections are learned by asking the layers with unit vectors, never by looking at
their weights: those may be elsewhere, quantised, or not be what the layer multiplies by, as with a LoRA in low memory.

Shapes: B rows, N places of the picture, K tokens; B is a multiple of the number of conditionings in the call.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from ..adapters.ppd.attention import Folded, UserAttention, fold
from ..adapters.ppd.layers import LayerShape

__all__ = ["KEY", "Person", "UserLayer", "UserPatch", "UserTokens", "multiplies_by"]

KEY = "palate_user"  # of our wrappers, and of what one patch leaves for the other
_UNIT = 256.0  # a power of two, so exact; large enough that a bias rounds nothing away in half precision
_SETS = 4  # of folded people kept in a run: for as many sets of weights and dtypes as take turns


@dataclass(frozen=True)
class UserLayer:
    """One cross-attention of ComfyUI's denoiser.

    Attributes:
        shape: Under diffusers' name.
        block: What ComfyUI calls it while it runs: "input", "middle" or "output", number, transformer.
        path: Of its module in the denoiser.
    """

    shape: LayerShape
    block: tuple[str, int, int]
    path: str


class UserTokens(nn.Module):
    """A user's tokens as keys and values of every layer: all that a run needs of the PPD, megabytes at most."""

    def __init__(self, attention: UserAttention, tokens: Tensor) -> None:
        super().__init__()
        self.keys, self.values = (
            nn.ParameterList(nn.Parameter(_projected(linear, tokens), requires_grad=False) for linear in side)
            for side in (attention.keys, attention.values)
        )


Person = tuple["UserTokens | None", "UserTokens | None"]
"""Tokens for the positive conditionings, and for the negative ones; None leaves them as they are."""


class UserPatch:
    """One Apply User node: two of ComfyUI's wrappers, and the folded people for as long as a run takes.

    Args:
        layers: All cross-attentions, in the order of the tokens' parts.
        people: One for all pictures of a batch, or several: picture i is for person i, from the first again where
            there are more pictures.
        strength: Factor of what a person adds.
        window: start_percent, end_percent.
    """

    def __init__(
        self,
        layers: Sequence[UserLayer],
        people: Sequence[Person],
        strength: float,
        window: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        self._layers = tuple(layers)
        self._places = {layer.block: place for place, layer in enumerate(layers)}
        self._people = tuple(people)
        self._strength, self._window = strength, window
        self._run: Any = None
        self._folded: dict[Hashable, dict[Hashable, Folded]] = {}

    def outer_sample(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        """Wrapper of a whole run (OUTER_SAMPLE): nothing folded outlives it."""
        before, self._run = self._run, executor.class_obj
        self._folded.clear()
        try:
            return executor(*args, **kwargs)
        finally:
            self._run = before
            self._folded.clear()

    def calc_cond_batch(
        self, executor: Any, model: Any, conds: Sequence[Any], x: Tensor, sigma: Tensor, options: Mapping[str, Any]
    ) -> Any:
        """Wrapper of a step (CALC_COND_BATCH): inside the window, the pair is around all other patches."""
        if not self._inside(model, sigma):
            return executor(model, conds, x, sigma, options)
        transformer = dict(options.get("transformer_options", {}))
        pictures = _pictures(transformer.get("context_window"), len(x))
        remember, add = self._pair(model, self._unconditional(conds), pictures)
        patches = dict(transformer.get("patches", {}))
        patches["attn2_patch"] = [remember, *patches.get("attn2_patch", [])]
        patches["attn2_output_patch"] = [*patches.get("attn2_output_patch", []), add]
        transformer["patches"] = patches
        return executor(model, conds, x, sigma, {**options, "transformer_options": transformer})

    def _inside(self, model: Any, sigma: Tensor) -> bool:
        if self._window == (0.0, 1.0):  # then nothing waits for the device to say its sigma
            return True
        # Asked now: a later node may have changed the model's schedule.
        first, last = (float(model.model_sampling.percent_to_sigma(percent)) for percent in self._window)
        return last <= float(sigma.max()) <= first

    def _unconditional(self, conds: Sequence[Any]) -> list[bool]:
        """Which conditionings of a call are negative ones: by their names in this run, else all but the first.

        Places alone would not do: self-attention guidance asks for the negative one alone, and guidance by two prompts
        has it first.
        """
        named = getattr(self._run, "conds", {})
        found = []
        for place, cond in enumerate(conds):
            name = next((name for name, known in named.items() if known is cond), None)
            found.append(place > 0 if name is None else "negative" in name)
        return found

    def _pair(
        self, model: Any, unconditional: Sequence[bool], pictures: Sequence[int]
    ) -> tuple[Callable[..., Any], Callable[[Tensor, dict[str, Any]], Tensor]]:
        """The functions for one step's calls."""

        def remember(n: Tensor, context: Any, value: Any, extra: dict[str, Any]) -> tuple[Tensor, Any, Any]:
            extra[KEY] = n
            return n, context, value

        def add(n: Tensor, extra: dict[str, Any]) -> Tensor:
            place = self._places.get((*(extra.get("block") or ("", 0)), extra.get("block_index", 0)))
            hidden = extra.get(KEY)
            if place is None or hidden is None:
                return n
            halves, counts = self._runs(
                [unconditional[cond] for cond in extra.get("cond_or_uncond") or [0]], pictures, len(n)
            )
            if len(halves) == 1:
                return self._added(model, place, halves[0], hidden, n)
            parts = zip(halves, hidden.split(counts), n.split(counts), strict=True)
            return torch.cat([self._added(model, place, *part) for part in parts])

        return remember, add

    def _runs(
        self, unconditional: Sequence[bool], pictures: Sequence[int], rows: int
    ) -> tuple[list[UserTokens | None], list[int]]:
        """Whose tokens act on the rows of a call, and on how many in a row: each conditioning has all pictures.

        Where somebody stacks parts of pictures into the batch, each part has all pictures again.
        """
        whose = [
            self._people[pictures[row % len(pictures)] % len(self._people)][negative]
            for negative in unconditional
            for row in range(rows // len(unconditional))
        ]
        runs = [list(run) for _, run in groupby(whose, key=id)]
        return [run[0] for run in runs], [len(run) for run in runs]

    def _added(self, model: Any, place: int, half: UserTokens | None, hidden: Tensor, n: Tensor) -> Tensor:
        if half is None:
            return n
        answer = self._fold(model, place, half, hidden)(hidden)
        return n + (self._strength * answer).to(n.dtype)

    def _fold(self, model: Any, place: int, half: UserTokens, like: Tensor) -> Folded:
        now = like.device, like.dtype, _weights_now(model)
        if now not in self._folded and len(self._folded) >= _SETS:
            self._folded.clear()
        mine = self._folded.setdefault(now, {})
        if (place, half) not in mine:
            layer = self._layers[place]
            block = model.diffusion_model.get_submodule(layer.path)
            keys, values = (side[place].to(like.device) for side in (half.keys, half.values))
            to_q = multiplies_by(block.to_q, layer.shape.query, like)
            to_out = multiplies_by(block.to_out, layer.shape.inner, like)
            mine[place, half] = fold(keys, values, layer.shape.heads, to_q, to_out).to(like.device, like.dtype)
        return mine[place, half]


def _pictures(window: Any, count: int) -> Sequence[int]:
    """Which pictures of the batch a step is about: those of a context window over it, else all."""
    if window is not None and getattr(window, "dim", None) == 0:
        return list(window.index_list)
    return range(count)


def multiplies_by(linear: Callable[[Tensor], Tensor], width: int, like: Tensor) -> Tensor:
    """The matrix (out, width) float32 that a layer multiplies by now, LoRAs, casts and all, found by asking it.

    Args:
        linear: A layer, with or without bias, that takes (1, rows, width).
        like: Of the dtype and on the device of what the layer is given in a run.
    """
    asked = torch.zeros(1, width + 1, width, dtype=like.dtype, device=like.device)
    asked[0, :width].fill_diagonal_(_UNIT)
    answers = linear(asked)[0].float()
    return (answers[:width] - answers[width]).T / _UNIT


def _projected(linear: Any, tokens: Tensor) -> Tensor:
    """Tokens through a layer of the user attention, in float32 whatever its weights are kept in."""
    with torch.no_grad():
        return nn.functional.linear(tokens.float(), linear.weight.float()).cpu()


def _weights_now(model: Any) -> Hashable:
    """What weights a model has at this moment: the host's mark of its patches, and the LoRAs of its hooks."""
    hooks = getattr(getattr(model, "current_patcher", None), "current_hooks", None)
    marks = tuple((id(hook.hook_ref), hook.strength) for hook in hooks.hooks) if hooks is not None else ()
    return str(getattr(model, "current_weight_patches_uuid", None)), marks
