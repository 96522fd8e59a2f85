"""A user in the blocks of ComfyUI's family of hosts: ComfyUI, Forge, reForge. Imports nothing of them.

They call two lists of functions in each cross-attention: `attn2_patch` before the query's projection, and
`attn2_output_patch` after the output's. A pair is put around whatever others have there: first in the one list, so that
it sees the block's own hidden state, and last in the other, so that it adds to all that the block gives. What replaces
the attention in between stays. That is why users, IP-Adapters and their like go together in any order.

A block gives away neither its query's nor its output's projection, so both are folded into the user's keys and values,
once a run. The projections are learned by asking the layers with unit vectors, never by looking at
their weights: those may be elsewhere, quantised, or not be what the layer multiplies by, as with a LoRA in low memory.

Shapes: B rows, N places of the picture, K tokens; B is a multiple of the number of conditionings in the call.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from .attention import Folded, UserAttention, fold
from .host_layers import HostLayer

__all__ = ["KEY", "UserBlocks", "UserTokens", "multiplies_by", "tokens_of"]

KEY = "palate_user"  # of what one patch leaves for the other
_UNIT = 256.0  # a power of two, so exact; large enough that a bias rounds nothing away in half precision
_SETS = 4  # of folded people kept in a run: for as many sets of weights and dtypes as take turns


class UserTokens(nn.Module):
    """A user's tokens as keys and values of every layer: all that a run needs of the PPD, megabytes at most."""

    def __init__(self, attention: UserAttention, tokens: Tensor) -> None:
        super().__init__()
        self.keys, self.values = (
            nn.ParameterList(nn.Parameter(_projected(linear, tokens), requires_grad=False) for linear in side)
            for side in (attention.keys, attention.values)
        )


def tokens_of(attention: UserAttention, tokens: Tensor | None) -> UserTokens | None:
    """The tokens for all layers; None where there is nobody, who would add zeros."""
    return UserTokens(attention, tokens) if tokens is not None and bool(tokens.any()) else None


class UserBlocks:
    """Users in all blocks, folded when a block first asks.

    Args:
        layers: All cross-attentions, in the order of the tokens' parts.
        strength: Factor of what the user adds.
    """

    def __init__(self, layers: Sequence[HostLayer], strength: float) -> None:
        self._layers, self._strength = tuple(layers), strength
        self._places = {layer.block: place for place, layer in enumerate(layers)}
        self._folded: dict[Hashable, dict[Hashable, Folded]] = {}

    @property
    def empty(self) -> bool:
        """Whether nothing folded is kept."""
        return not self._folded

    def forget(self) -> None:
        """Keep nothing that was folded."""
        self._folded.clear()

    def pair(
        self,
        denoiser: Any,
        whose: Callable[[Sequence[int], int], Sequence[UserTokens | None]],
        weights: Callable[[], Hashable] = lambda: None,
    ) -> tuple[Callable[..., Any], Callable[[Tensor, dict[str, Any]], Tensor]]:
        """The functions for the two lists.

        Args:
            denoiser: The host's.
            whose: (conditionings of a call, as the host numbers them; B) -> who acts on each of the B rows, where each
                conditioning has as many; None leaves a row as it is.
            weights: () -> a mark that changes when the denoiser's weights do.
        """

        def remember(n: Tensor, context: Any, value: Any, extra: dict[str, Any]) -> tuple[Tensor, Any, Any]:
            extra[KEY] = n
            return n, context, value

        def added(place: int, tokens: UserTokens | None, hidden: Tensor, n: Tensor) -> Tensor:
            if tokens is None:
                return n
            answer = self._fold(denoiser, place, tokens, hidden, weights())(hidden)
            return n + (self._strength * answer).to(n.dtype)

        def add(n: Tensor, extra: dict[str, Any]) -> Tensor:
            place = self._places.get((*(extra.get("block") or ("", 0)), extra.get("block_index", 0)))
            hidden = extra.get(KEY)
            if place is None or hidden is None:
                return n
            runs = [list(run) for _, run in groupby(whose(extra.get("cond_or_uncond") or [0], len(n)), key=id)]
            if len(runs) == 1:
                return added(place, runs[0][0], hidden, n)
            counts = [len(run) for run in runs]
            parts = zip(runs, hidden.split_with_sizes(counts), n.split_with_sizes(counts), strict=True)
            return torch.cat([added(place, run[0], *part) for run, *part in parts])

        return remember, add

    def _fold(self, denoiser: Any, place: int, tokens: UserTokens, like: Tensor, weights: Hashable) -> Folded:
        now = like.device, like.dtype, weights
        if now not in self._folded and len(self._folded) >= _SETS:
            self._folded.clear()
        mine = self._folded.setdefault(now, {})
        if (place, tokens) not in mine:
            layer = self._layers[place]
            block = denoiser.get_submodule(layer.path)
            keys, values = (side[place].to(like.device) for side in (tokens.keys, tokens.values))
            to_q = multiplies_by(block.to_q, layer.shape.query, like)
            to_out = multiplies_by(block.to_out, layer.shape.inner, like)
            folded = fold(keys, values, layer.shape.heads, to_q, to_out)
            mine[place, tokens] = folded.to(like.device, like.dtype)
        return mine[place, tokens]


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
