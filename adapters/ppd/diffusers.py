"""A user in a diffusers UNet: attention processors around the model's own, put on for a while.

`use_user` is for generating: one user, whose keys and values are made once. `user_branch` is for training: tokens per
row, with gradients, also under gradient checkpointing. Whatever processor a block has does the text's attention as
before; the user's answer is computed from that block's own query and leaves through its own output projection, LoRAs on
either included.

Shapes: B rows, N places of the picture, K tokens, W their width.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import PPDError
from .attention import attend
from .layers import layers_of, width_of
from .model import PPD
from .user import User, require_use

__all__ = ["Branch", "UserProcessor", "use_user", "user_branch"]

_TEXT = "encoder_hidden_states"
# (query (B, N, inner), user's tokens that came along with the text, if any) -> (B, N, inner), or None for no answer
Answer = Callable[[Tensor, Tensor | None], Tensor | None]


class Branch:
    """The user side of a UNet that is being trained.

    Attributes:
        tokens: (B, K, W), or (1, K, W) for all rows, for the next forward passes; a row of zeros is nobody. None is
            nobody in all rows: the reference, bit for bit.
    """

    tokens: Tensor | None = None


class UserProcessor:
    """An attention processor that adds a user to what the block's own one does."""

    def __init__(self, inner: Any, answer: Answer) -> None:
        """Wrap the one that does the text."""
        self.inner, self.answer = inner, answer

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Any = None,
        attention_mask: Tensor | None = None,
        ip_adapter_masks: Any = None,
    ) -> Tensor:
        text, tokens = _apart(encoder_hidden_states)
        block = _Block(attn, lambda query: self.answer(query, tokens))
        more = {} if ip_adapter_masks is None else {"ip_adapter_masks": ip_adapter_masks}
        found: Tensor = self.inner(
            block, hidden_states, encoder_hidden_states=text, attention_mask=attention_mask, **more
        )
        return found


@contextlib.contextmanager
def use_user(
    unet: Any,
    ppd: PPD,
    user: User | None,
    strength: float = 1.0,
    start_percent: float = 0.0,
    end_percent: float = 1.0,
    timesteps: int = 1000,
    guidance: bool = True,
) -> Iterator[None]:
    """Let a user act on a UNet while this lasts.

    With no user, nobody's tokens or strength 0 nothing is put on: the base model bit for bit.

    Args:
        unet: diffusers' UNet2DConditionModel.
        ppd: Of the same base.
        user: Made by this PPD.
        strength: -5 to 5; 1 as trained, below 0 leads away from the person.
        start_percent, end_percent: Part of the schedule in [0, 1]; p is the noise level of timestep
            (1 - p) * (timesteps - 1), as ComfyUI has it.
        timesteps: Of the noise schedule that the model was trained with.
        guidance: Whether batches are [uncond; cond], as diffusers' pipelines make them: the first half then sees
            `user.negative`, if anything, and the second the user. Otherwise all rows see the user.

    Raises:
        PPDError: user, PPD and model don't fit, or a number out of range; before anything is changed.
    """
    require_use(strength, start_percent, end_percent)
    ppd.fits(layers_of(unet), width_of(unet))
    if user is None:
        yield
        return
    ppd.takes(user)
    halves = _halves(user, guidance)
    if strength == 0.0 or not bool(halves.any()):
        yield
        return
    window = _Window(start_percent, end_percent, timesteps)
    answers = [_Constant(ppd, place, halves, strength, window) for place in range(len(ppd.attention.layers))]
    watch = unet.register_forward_pre_hook(window.look, with_kwargs=True)
    try:
        with _processors(unet, ppd, lambda place, inner: UserProcessor(inner, answers[place])):
            yield
    finally:
        watch.remove()


@contextlib.contextmanager
def user_branch(unet: Any, ppd: PPD) -> Iterator[Branch]:
    """Give a UNet a user side whose tokens are set before each forward pass; for training `ppd.attention`.

    The tokens are read once, when a forward pass starts, and travel with the text's from block to block: so that what
    gradient checkpointing computes again in the backward pass sees the tokens that it saw before, whatever has been set
    since.

    Args:
        unet: diffusers' UNet2DConditionModel. With no tokens set it is the reference.
        ppd: Of the same base; its attention is where the UNet is.

    Raises:
        PPDError: PPD and model don't fit; at a forward pass: tokens of another shape.
    """
    layers = ppd.attention.layers
    ppd.fits(layers_of(unet), width_of(unet))
    branch = Branch()

    def join(_: Any, args: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        tokens = branch.tokens
        if tokens is None:
            return None
        sample = args[0] if args else named["sample"]
        if tokens.ndim != 3 or tokens.shape[0] not in (1, len(sample)) or tokens.shape[2] != ppd.width:
            raise PPDError(
                f"Cannot run the denoiser with user tokens of shape {tuple(tokens.shape)}; expected "
                f"({len(sample)}, K, {ppd.width}): one row for each of the batch."
            )
        if _TEXT in named:
            return args, named | {_TEXT: _WithUser(named[_TEXT], tokens)}
        return (*args[:2], _WithUser(args[2], tokens), *args[3:]), named

    def processor(place: int, inner: Any) -> UserProcessor:
        def answer(query: Tensor, tokens: Tensor | None) -> Tensor | None:
            if tokens is None:
                return None
            return attend(query, *ppd.attention.project(place, tokens), layers[place].heads)

        return UserProcessor(inner, answer)

    watch = unet.register_forward_pre_hook(join, with_kwargs=True)
    try:
        with _processors(unet, ppd, processor):
            yield branch
    finally:
        watch.remove()


class _WithUser(NamedTuple):
    """The text's tokens on their way through the UNet, with the user's."""

    text: Any
    tokens: Tensor


def _apart(states: Any) -> tuple[Any, Tensor | None]:
    """What the text's processor expects, and the user's tokens."""
    if isinstance(states, _WithUser):
        return states.text, states.tokens
    if isinstance(states, tuple) and states and isinstance(states[0], _WithUser):  # diffusers' IP-Adapter joined later
        return (states[0].text, *states[1:]), states[0].tokens
    return states, None


class _Block:
    """A cross-attention as its own processor sees it: the same, but for a user's answer in what goes out."""

    def __init__(self, attention: Any, answer: Callable[[Tensor], Tensor | None]) -> None:
        self._attention, self._answer = attention, answer
        self._query: Tensor | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._attention, name)

    def to_q(self, hidden: Tensor, *more: Any) -> Tensor:
        self._query = self._attention.to_q(hidden, *more)
        return self._query

    @property
    def to_out(self) -> list[Any]:
        return [self._out, *list(self._attention.to_out)[1:]]

    def _out(self, states: Tensor, *more: Any) -> Any:
        if self._query is None:
            raise PPDError(
                "Cannot use a user with this attention processor: it doesn't ask by the block's to_q; expected one "
                "that does, as diffusers' own do. Choose another one by set_attn_processor."
            )
        answer = self._answer(self._query)
        return self._attention.to_out[0](states if answer is None else states + answer, *more)


class _Constant:
    """What one layer answers for a user who stays the same: keys and values are made once."""

    def __init__(self, ppd: PPD, place: int, halves: Tensor, strength: float, window: _Window) -> None:
        with torch.no_grad():
            keys, values = ppd.attention.project(place, halves)
        self._keys, self._values = keys, strength * values.float()
        self._heads, self._window = ppd.attention.layers[place].heads, window

    def __call__(self, query: Tensor, _: Tensor | None) -> Tensor | None:
        if not self._window.open:
            return None
        repeats = max(1, len(query) // len(self._keys))
        if (self._keys.device, self._keys.dtype) != (query.device, query.dtype):
            self._keys, self._values = (part.to(query.device, query.dtype) for part in (self._keys, self._values))
        keys, values = self._keys, self._values
        if len(keys) > 1 and repeats > 1:
            keys, values = keys.repeat_interleave(repeats, 0), values.repeat_interleave(repeats, 0)
        return attend(query, keys, values, self._heads)


class _Window:
    """The part of the schedule where a user acts, and whether a forward pass is in it."""

    def __init__(self, start_percent: float, end_percent: float, timesteps: int) -> None:
        self._first = math.inf if start_percent == 0.0 else (1.0 - start_percent) * (timesteps - 1)
        self._last = -math.inf if end_percent == 1.0 else (1.0 - end_percent) * (timesteps - 1)
        self.open = True

    def look(self, _: Any, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        """See at which timestep a forward pass starts; all rows are at the same."""
        if math.isinf(self._first) and math.isinf(self._last):
            return
        timestep = torch.as_tensor(args[1] if len(args) > 1 else named["timestep"])
        self.open = self._last <= float(timestep.flatten()[0]) <= self._first


@contextlib.contextmanager
def _processors(unet: Any, ppd: PPD, wrap: Callable[[int, Any], UserProcessor]) -> Iterator[None]:
    """Put a processor around that of each cross-attention; afterwards they are as they were."""
    attentions = [unet.get_submodule(layer.name) for layer in ppd.attention.layers]
    before = [attention.processor for attention in attentions]
    try:
        for place, attention in enumerate(attentions):
            attention.set_processor(wrap(place, before[place]))
        yield
    finally:
        for attention, processor in zip(attentions, before, strict=True):
            attention.set_processor(processor)


def _halves(user: User, guidance: bool) -> Tensor:
    """(2, K, W) tokens of the unconditional and the conditional half, or (1, K, W) where there is but one."""
    if not guidance:
        return user.tokens[None]
    negative = torch.zeros_like(user.tokens) if user.negative is None else user.negative
    # Tokens that all stand there equally often answer as if they stood there once.
    together = math.lcm(len(negative), user.count)
    return torch.stack([part.repeat(together // len(part), 1) for part in (negative, user.tokens)])
