"""A user in the denoiser of Forge and reForge, through their UNet patcher.

Theirs calls the same lists of functions as ComfyUI: see `adapters/ppd/host_blocks`. Automatic1111 itself has none.

Shapes: B rows of a call: for each conditioning all pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...adapters.errors import PPDError
from ...adapters.ppd.host_blocks import UserBlocks, UserTokens, tokens_of
from ...adapters.ppd.host_layers import HostLayer, host_layers
from ...adapters.ppd.model import PPD
from ...adapters.ppd.user import User, require_use

__all__ = ["ReadyUser", "layers_of_host", "with_user"]


@dataclass(frozen=True, eq=False)
class ReadyUser:
    """One user for one model: all that a run needs of a PPD, which may then be let go.

    Attributes:
        layers: Of the model that it was made for. width: Of its text tokens.
        cond, uncond: For the prompt's half of a batch, and for the negative prompt's; None leaves it as it is.
    """

    layers: tuple[HostLayer, ...]
    width: int
    cond: UserTokens | None
    uncond: UserTokens | None

    @classmethod
    def of(cls, ppd: PPD, user: User, layers: Sequence[HostLayer], width: int) -> ReadyUser:
        """Carry a user through a PPD's layers.

        Raises:
            PPDError: user, PPD and model don't belong together.
        """
        ppd.takes(user)
        ppd.fits([layer.shape for layer in layers], width)
        return cls(tuple(layers), width, tokens_of(ppd.attention, user.tokens), tokens_of(ppd.attention, user.negative))


def layers_of_host(unet: Any) -> tuple[tuple[HostLayer, ...], int]:
    """The cross-attentions of what a host has loaded, and the width of its text tokens.

    Args:
        unet: `forge_objects.unet`.

    Raises:
        PPDError: a kind of model that has none.
    """
    return host_layers(_denoiser(unet))


def with_user(
    unet: Any, user: ReadyUser, strength: float, start_percent: float = 0.0, end_percent: float = 1.0
) -> tuple[Any, UserBlocks | None]:
    """A copy of a host's UNet patcher in which a user acts, and what to empty after the run.

    The negative prompt's half of a batch stays as it is, but for a PPD with tokens of its own for it. With strength 0
    or nobody's tokens it is the patcher itself: the same pictures bit for bit.

    Args:
        unet: `forge_objects.unet`; not changed.
        user: Made for this model.
        strength: -5 to 5; 1 as trained, below 0 leads away from the person.
        start_percent, end_percent: Part of the schedule in [0, 1], by noise level as in ComfyUI.

    Raises:
        PPDError: a number out of range, or the model is another one.
    """
    require_use(strength, start_percent, end_percent)
    layers, width = layers_of_host(unet)
    if (layers, width) != (user.layers, user.width):
        raise PPDError(
            "Cannot apply the user: the model has changed since it was made ready; expected the same. Press Generate "
            "again."
        )
    halves = (user.cond, user.uncond)
    if not strength or halves == (None, None):
        return unet, None
    patched, blocks = unet.clone(), UserBlocks(layers, strength)

    def whose(conds: Sequence[int], rows: int) -> list[UserTokens | None]:
        return [halves[bool(cond)] for cond in conds for _ in range(rows // len(conds))]

    remember, add = blocks.pair(_denoiser(patched), whose)
    if (start_percent, end_percent) != (0.0, 1.0):
        add = _inside(add, *(_sigma(patched, percent) for percent in (start_percent, end_percent)))
    options = patched.model_options["transformer_options"]
    patches = options.get("patches", {})
    options["patches"] = patches | {
        "attn2_patch": [remember, *patches.get("attn2_patch", [])],
        "attn2_output_patch": [*patches.get("attn2_output_patch", []), add],
    }
    patched.add_extra_preserved_memory_during_sampling(_folded_bytes(patched, user))
    return patched, blocks


def _folded_bytes(unet: Any, user: ReadyUser) -> int:
    """What the blocks keep beside the model in a run."""
    tokens = sum(half.keys[0].shape[0] for half in (user.cond, user.uncond) if half is not None)
    shapes = [layer.shape for layer in user.layers]
    numbers = tokens * sum(shape.heads * (shape.query + shape.out) for shape in shapes)
    stored = next(_denoiser(unet).parameters()).element_size()
    return int(numbers * min(4, max(2, stored)))  # weights kept in 8 bits are computed with in 16


def _inside(add: Any, first: float, last: float) -> Any:
    """The function, off where the noise is above `first` or below `last`."""

    def when_inside(n: Tensor, extra: dict[str, Any]) -> Tensor:
        sigma = float(torch.as_tensor(extra["sigmas"]).max())
        changed: Tensor = add(n, extra) if last <= sigma <= first else n
        return changed

    return when_inside


def _sigma(unet: Any, percent: float) -> float:
    # Forge's name, and the one of reForge and ComfyUI.
    schedule = getattr(unet.model, "predictor", None) or unet.model.model_sampling
    return float(schedule.percent_to_sigma(percent))


def _denoiser(unet: Any) -> Any:
    denoiser = unet.model.diffusion_model
    return getattr(denoiser, "_orig_mod", denoiser)  # torch.compile wraps it
