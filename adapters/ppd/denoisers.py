"""Where a user enters a denoiser, whichever of diffusers' families it is of: one door to the three rooms.

UNets with attention to text (`diffusers.py`), Stable Cascade's stage C (`cascade.py`), SD3 and Flux (`dit.py`).
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from .cascade import cascade_branch, cascade_layers, cascade_width, use_user_in_cascade
from .diffusers import Branch, use_user, user_branch
from .dit import dit_branch, dit_layers, dit_width, use_user_in_dit
from .layers import LayerShape, base_of, layers_of, width_of
from .model import PPD
from .user import User

__all__ = ["branch_in", "layers_in", "published_base", "use_in"]

_CASCADE = "StableCascadeUNet"
_DITS = ("SD3Transformer2DModel", "FluxTransformer2DModel")


def layers_in(denoiser: Any) -> tuple[tuple[LayerShape, ...], int]:
    """Return the attentions that a user enters, in order, and the width of the model's text tokens.

    Args:
        denoiser: diffusers' UNet2DConditionModel, StableCascadeUNet, SD3Transformer2DModel or FluxTransformer2DModel.

    Raises:
        PPDError: another model.
    """
    kind = type(denoiser).__name__
    if kind == _CASCADE:
        return cascade_layers(denoiser), cascade_width(denoiser)
    if kind in _DITS:
        return dit_layers(denoiser), dit_width(denoiser)
    return layers_of(denoiser), width_of(denoiser)


def published_base(denoiser: Any) -> str:
    """Return the published base that a model is of, one of `BASES`; "custom" where none is known by its layers."""
    return "cascade" if type(denoiser).__name__ == _CASCADE else base_of(layers_in(denoiser)[0]) or "custom"


def branch_in(denoiser: Any, ppd: PPD) -> AbstractContextManager[Branch]:
    """Give a model a user side for training; see `user_branch`, `cascade_branch` and `dit_branch`."""
    kind = type(denoiser).__name__
    branch = cascade_branch if kind == _CASCADE else dit_branch if kind in _DITS else user_branch
    return branch(denoiser, ppd)


def use_in(
    denoiser: Any,
    ppd: PPD,
    user: User | None,
    strength: float = 1.0,
    start_percent: float = 0.0,
    end_percent: float = 1.0,
) -> AbstractContextManager[None]:
    """Let a user act on what the model's own pipeline draws, while this lasts.

    Args:
        denoiser: As for `layers_in`: `pipe.unet`, `pipe.transformer`, or stage C's `prior_pipe.prior`.
        ppd: Of the same model. user: Made by it; None leaves the model as it is.
        strength, start_percent, end_percent: As in `use_user`.

    Raises:
        PPDError: user, PPD and model don't fit, or a number out of range; before anything is changed.
    """
    kind, asked = type(denoiser).__name__, (strength, start_percent, end_percent)
    if kind == _CASCADE:
        return use_user_in_cascade(denoiser, ppd, user, *asked)
    if kind in _DITS:  # Flux has its guidance inside, and no unconditional half
        return use_user_in_dit(denoiser, ppd, user, *asked, guidance=kind != "FluxTransformer2DModel")
    return use_user(denoiser, ppd, user, *asked)
