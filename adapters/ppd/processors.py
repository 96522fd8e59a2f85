"""Attention processors that add a user to what a block's own processor does; for every diffusers model.

Whatever processor a block has does the text's attention as before; the user's answer is computed from that block's own
query and leaves through its own output projection, LoRAs on either included.

Shapes: B rows, N places of the picture, K tokens, W their width.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import PPDError
from .attention import attend
from .model import PPD
from .user import User

__all__ = [
    "Answer",
    "Block",
    "ConstantAnswer",
    "UserProcessor",
    "Window",
    "WithUser",
    "acting",
    "put_answers",
    "put_on",
]

# (query (B, N, inner), user's tokens that came along with the text, if any) -> (B, N, inner), or None for no answer
Answer = Callable[[Tensor, Tensor | None], Tensor | None]


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
        block = Block(attn, lambda query: self.answer(query, tokens))
        more = {} if ip_adapter_masks is None else {"ip_adapter_masks": ip_adapter_masks}
        found: Tensor = self.inner(
            block, hidden_states, encoder_hidden_states=text, attention_mask=attention_mask, **more
        )
        return found


class WithUser(NamedTuple):
    """The text's tokens on their way through the UNet, with the user's."""

    text: Any
    tokens: Tensor


def _apart(states: Any) -> tuple[Any, Tensor | None]:
    """What the text's processor expects, and the user's tokens."""
    if isinstance(states, WithUser):
        return states.text, states.tokens
    if isinstance(states, tuple) and states and isinstance(states[0], WithUser):  # diffusers' IP-Adapter joined later
        return (states[0].text, *states[1:]), states[0].tokens
    return states, None


class Block:
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


class ConstantAnswer:
    """What one layer answers for a user who stays the same: keys and values are made once."""

    def __init__(self, ppd: PPD, place: int, halves: Tensor, strength: float, window: Window) -> None:
        with torch.no_grad():
            keys, values = ppd.attention.project(place, halves)
        self._keys, self._values = keys, strength * values.float()
        self._heads, self._window = ppd.attention.layers[place].heads, window

    def __call__(self, query: Tensor, _: Tensor | None) -> Tensor | None:
        if not self._window.open:
            return None
        repeats, odd = divmod(len(query), len(self._keys))
        if odd:
            raise PPDError(
                f"Cannot use a user in a batch of {len(query)}: guidance wants as many unconditional rows as others. "
                "Say guidance=False where there is none."
            )
        if (self._keys.device, self._keys.dtype) != (query.device, query.dtype):
            self._keys, self._values = (part.to(query.device, query.dtype) for part in (self._keys, self._values))
        keys, values = self._keys, self._values
        if len(keys) > 1 and repeats > 1:
            keys, values = keys.repeat_interleave(repeats, 0), values.repeat_interleave(repeats, 0)
        return attend(query, keys, values, self._heads)


class Window:
    """The part of the schedule where a user acts, and whether a forward pass is in it."""

    def __init__(self, start_percent: float, end_percent: float, noisiest: float, name: str = "timestep") -> None:
        """Set the part.

        Args:
            start_percent, end_percent: In [0, 1]; p is the noise level (1 - p) * noisiest.
            noisiest: The model's time where there is nothing but noise; 0 is the finished picture.
            name: Of the model's argument that says its time, its second one.
        """
        self._first = math.inf if start_percent == 0.0 else (1.0 - start_percent) * noisiest
        self._last = -math.inf if end_percent == 1.0 else (1.0 - end_percent) * noisiest
        self._name = name
        self.open = True

    def look(self, _: Any, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        """See at which time a forward pass starts; all rows are at the same."""
        if math.isinf(self._first) and math.isinf(self._last):
            return
        time = torch.as_tensor(named[self._name] if self._name in named else args[1])
        self.open = self._last <= float(time.flatten()[0]) <= self._first


@contextlib.contextmanager
def put_on(unet: Any, ppd: PPD, wrap: Callable[[int, Any], UserProcessor]) -> Iterator[None]:
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


def put_answers(unet: Any, ppd: PPD, answers: Sequence[Answer]) -> AbstractContextManager[None]:
    """Put processors on that answer for a user, one for each cross-attention."""
    return put_on(unet, ppd, lambda place, inner: UserProcessor(inner, answers[place]))


@contextlib.contextmanager
def acting(
    model: Any,
    ppd: PPD,
    user: User | None,
    strength: float,
    window: Window,
    guidance: bool,
    put: Callable[[Any, PPD, Sequence[Answer]], AbstractContextManager[None]],
    cond_first: bool = False,
) -> Iterator[None]:
    """Let a user act on a model while this lasts; with nobody or strength 0 nothing is put on.

    Args:
        model: What the PPD fits; its forward passes say their time.
        ppd: Of this model.
        user: Made by this PPD.
        strength: 1 as trained.
        window: Part of the schedule.
        guidance: Whether batches have an unconditional half.
        put: Puts answers, one for each of the PPD's layers, on the model for a while, as `put_answers` does.
        cond_first: Whether batches are [cond; uncond] instead of [uncond; cond].

    Raises:
        PPDError: another PPD's user.
    """
    if user is None:
        yield
        return
    ppd.takes(user)
    halves = _halves_of(user, guidance)
    if strength == 0.0 or not bool(halves.any()):
        yield
        return
    halves = halves.flip(0) if cond_first else halves
    answers: list[Answer] = [
        ConstantAnswer(ppd, place, halves, strength, window) for place in range(len(ppd.attention.layers))
    ]
    watch = model.register_forward_pre_hook(window.look, with_kwargs=True)
    try:
        with put(model, ppd, answers):
            yield
    finally:
        watch.remove()


def _halves_of(user: User, guidance: bool) -> Tensor:
    """(2, K, W) tokens of the unconditional and the conditional half, or (1, K, W) where there is but one."""
    if not guidance:
        return user.tokens[None]
    negative = torch.zeros_like(user.tokens) if user.negative is None else user.negative
    # Tokens that all stand there equally often answer as if they stood there once.
    together = math.lcm(len(negative), user.count)
    return torch.stack([part.repeat(together // len(part), 1) for part in (negative, user.tokens)])
