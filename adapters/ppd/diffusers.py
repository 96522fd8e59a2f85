"""A user in a diffusers UNet: attention processors around the model's own, put on for a while.

`use_user` is for generating: one user, whose keys and values are made once. `user_branch` is for training: tokens per
row, with gradients, also under gradient checkpointing. Whatever processor a block has does the text's attention as
before (`processors.py`).

Shapes: B rows, N places of the picture, K tokens, W their width.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from ..errors import PPDError
from .attention import attend
from .layers import layers_of, width_of
from .model import PPD
from .processors import UserProcessor, Window, WithUser, acting, put_answers, put_on
from .user import User, require_use

__all__ = ["Branch", "use_user", "user_branch"]

_TEXT = "encoder_hidden_states"


class Branch:
    """The user side of a UNet that is being trained.

    Attributes:
        tokens: (B, K, W), or (1, K, W) for all rows, for the next forward passes; a row of zeros is nobody. None is
            nobody in all rows: the reference, bit for bit.
    """

    tokens: Tensor | None = None


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
    window = Window(start_percent, end_percent, timesteps - 1)
    with acting(unet, ppd, user, strength, window, guidance, put_answers):
        yield


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
            return args, named | {_TEXT: WithUser(named[_TEXT], tokens)}
        return (*args[:2], WithUser(args[2], tokens), *args[3:]), named

    def processor(place: int, inner: Any) -> UserProcessor:
        def answer(query: Tensor, tokens: Tensor | None) -> Tensor | None:
            if tokens is None:
                return None
            return attend(query, *ppd.attention.project(place, tokens), layers[place].heads)

        return UserProcessor(inner, answer)

    watch = unet.register_forward_pre_hook(join, with_kwargs=True)
    try:
        with put_on(unet, ppd, processor):
            yield branch
    finally:
        watch.remove()
