"""A user in Stable Cascade's stage C, the base that PPD was published on.

Its attention blocks put text and picture side by side and let one attention see both, so there is no text attention to
stand beside: the user's is a new one, with the block's own query and output projection.

    Z' = softmax(Q [K_picture, K_text]' / sqrt(d)) [V_picture, V_text] + softmax(Q K_u' / sqrt(d)) V_u

Shapes: B rows, N places of the picture, K tokens, W = 2048 their width, as wide as what the blocks map text from.

Source: Dang et al. 2025, PPD, arXiv:2501.06655; diffusers' StableCascadeUNet. Differs: the paper doesn't say how its
user attention meets joint attention.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from ..errors import PPDError
from .attention import attend
from .diffusers import Branch
from .layers import LayerShape
from .model import PPD
from .processors import Window, WithUser, acting, put_answers
from .user import User, require_use

__all__ = ["cascade_branch", "cascade_layers", "cascade_width", "use_user_in_cascade"]


def cascade_layers(unet: Any) -> tuple[LayerShape, ...]:
    """Return the attentions of a Stable Cascade UNet, from the first block to the last.

    Args:
        unet: diffusers' StableCascadeUNet, on any device, "meta" too.

    Raises:
        PPDError: no such model, or one without attention.
    """
    return tuple(
        LayerShape(
            f"{name}.attention",
            block.attention.to_q.in_features,
            block.attention.inner_dim,
            block.attention.heads,
            block.attention.to_out[0].out_features,
        )
        for name, block in _blocks(unet)
    )


def cascade_width(unet: Any) -> int:
    """Return W, the width of what the blocks map text from: 2048 in stage C.

    Raises:
        PPDError: no such model.
    """
    return int(_blocks(unet)[0][1].kv_mapper[1].in_features)


@contextlib.contextmanager
def use_user_in_cascade(
    unet: Any,
    ppd: PPD,
    user: User | None,
    strength: float = 1.0,
    start_percent: float = 0.0,
    end_percent: float = 1.0,
    guidance: bool = True,
) -> Iterator[None]:
    """Let a user act on stage C while this lasts.

    With no user, nobody's tokens or strength 0 nothing is put on: the base model bit for bit.

    Args:
        unet: diffusers' StableCascadeUNet, `pipe.prior_prior` or `prior_pipe.prior`.
        ppd: Of the base "cascade".
        user: Made by this PPD.
        strength: -5 to 5; 1 as trained.
        start_percent, end_percent: Part of the schedule; p is the timestep ratio 1 - p.
        guidance: Whether batches are [cond; uncond], as Stable Cascade's pipeline makes them, the other way round than
            Stable Diffusion's.

    Raises:
        PPDError: user, PPD and model don't fit, or a number out of range; before anything is changed.
    """
    require_use(strength, start_percent, end_percent)
    ppd.fits(cascade_layers(unet), cascade_width(unet))
    window = Window(start_percent, end_percent, 1.0, "timestep_ratio")
    with acting(unet, ppd, user, strength, window, guidance, put_answers, cond_first=True):
        yield


@contextlib.contextmanager
def cascade_branch(unet: Any, ppd: PPD) -> Iterator[Branch]:
    """Give stage C a user side whose tokens are set before each forward pass; for training `ppd.attention`.

    The tokens travel with the text from block to block, as in `user_branch`, so gradient checkpointing sees the same.

    Args:
        unet: diffusers' StableCascadeUNet. With no tokens set it is the reference, bit for bit.
        ppd: Of the base "cascade"; its attention is where the UNet is.

    Raises:
        PPDError: PPD and model don't fit; at a forward pass: tokens of another shape.
    """
    ppd.fits(cascade_layers(unet), cascade_width(unet))
    branch = Branch()
    cells = [_Cell(ppd, place) for place in range(len(ppd.attention.layers))]

    def join(_: Any, __: Any, text: Tensor) -> WithUser | None:
        tokens = branch.tokens
        if tokens is None:
            return None
        if tokens.ndim != 3 or tokens.shape[0] not in (1, len(text)) or tokens.shape[2] != ppd.width:
            raise PPDError(
                f"Cannot run the denoiser with user tokens of shape {tuple(tokens.shape)}; expected "
                f"({len(text)}, K, {ppd.width}): one row for each of the batch."
            )
        return WithUser(text, tokens)

    hooks = [unet.clip_norm.register_forward_hook(join)]
    hooks += [
        block.kv_mapper.register_forward_pre_hook(cell.part)
        for (_, block), cell in zip(_blocks(unet), cells, strict=True)
    ]
    try:
        with put_answers(unet, ppd, cells):
            yield branch
    finally:
        for hook in hooks:
            hook.remove()


class _Cell:
    """One block's answer to the tokens that came along with its text."""

    def __init__(self, ppd: PPD, place: int) -> None:
        self._ppd, self._place = ppd, place
        self._tokens: Tensor | None = None

    def part(self, _: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Take the tokens off the text, which the block maps just before it attends."""
        (text,) = args
        self._tokens = text.tokens if isinstance(text, WithUser) else None
        return (text.text if isinstance(text, WithUser) else text,)

    def __call__(self, query: Tensor, _: Tensor | None) -> Tensor | None:
        if self._tokens is None:
            return None
        attention = self._ppd.attention
        return attend(query, *attention.project(self._place, self._tokens), attention.layers[self._place].heads)


def _blocks(unet: Any) -> list[tuple[str, Any]]:
    """The blocks with attention by name; another model is refused."""
    found = []
    for side in ("down_blocks", "up_blocks"):
        for i, level in enumerate(getattr(unet, side, [])):
            blocks = level if hasattr(level, "__iter__") else []
            found += [(f"{side}.{i}.{j}", block) for j, block in enumerate(blocks) if hasattr(block, "kv_mapper")]
    if not found or not hasattr(unet, "clip_norm"):
        raise PPDError(
            f"Cannot put a user into a {type(unet).__name__} as into Stable Cascade: found no attention beside text "
            "in it; expected diffusers' StableCascadeUNet of stage C. Load that, or a PPD of your base model."
        )
    return found
