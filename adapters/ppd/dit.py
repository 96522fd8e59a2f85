"""A user in a diffusion transformer: Stable Diffusion 3 and Flux through diffusers.

Text and picture are one row of tokens there, attended to jointly. The user's attention is a new one beside it, asked by
the picture's tokens alone, before positions are turned into their queries (a person stands nowhere in the picture), and
leaves through the picture's own output projection:

    Z'_picture = Z_picture + softmax(norm(Q_picture) K_u' / sqrt(d)) V_u

Only blocks that still know text from picture have one: all of SD3's, the 19 double blocks of Flux.

Shapes: B rows, N places of the picture, K tokens, W their width, as wide as the text that the model takes (4096).

Source: Dang et al. 2025, PPD, arXiv:2501.06655, for UNets; where to ask, as in diffusers' IP-Adapter for Flux.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from ..errors import PPDError
from .attention import attend
from .diffusers import Branch
from .layers import LayerShape
from .model import PPD
from .processors import Answer, Block, Window, acting
from .user import User, require_use

__all__ = ["dit_branch", "dit_layers", "dit_width", "use_user_in_dit"]

_NOISIEST = {"SD3Transformer2DModel": 1000.0, "FluxTransformer2DModel": 1.0}  # the time that pipelines give for noise


def dit_layers(transformer: Any) -> tuple[LayerShape, ...]:
    """Return the joint attentions of a transformer, in order.

    Args:
        transformer: diffusers' SD3Transformer2DModel or FluxTransformer2DModel, on any device, "meta" too.

    Raises:
        PPDError: another model.
    """
    _require(transformer)
    return tuple(
        LayerShape(
            f"transformer_blocks.{number}.attn",
            block.attn.to_q.in_features,
            block.attn.to_q.out_features,
            block.attn.heads,
            block.attn.to_out[0].out_features,
        )
        for number, block in enumerate(transformer.transformer_blocks)
    )


def dit_width(transformer: Any) -> int:
    """Return W, the width of the text that the model takes.

    Raises:
        PPDError: another model.
    """
    _require(transformer)
    return int(transformer.context_embedder.in_features)


@contextlib.contextmanager
def use_user_in_dit(
    transformer: Any,
    ppd: PPD,
    user: User | None,
    strength: float = 1.0,
    start_percent: float = 0.0,
    end_percent: float = 1.0,
    guidance: bool = True,
) -> Iterator[None]:
    """Let a user act on a diffusion transformer while this lasts.

    With no user, nobody's tokens or strength 0 nothing is put on: the base model bit for bit.

    Args:
        transformer: As for `dit_layers`.
        ppd: Of the same model.
        user: Made by this PPD.
        strength: -5 to 5; 1 as trained.
        start_percent, end_percent: Part of the schedule; p is the flow's time 1 - p, after the scheduler's shift.
        guidance: Whether batches are [uncond; cond], as SD3's pipeline makes them. Flux, which has its guidance inside,
            gives False.

    Raises:
        PPDError: user, PPD and model don't fit, or a number out of range; before anything is changed.
    """
    require_use(strength, start_percent, end_percent)
    ppd.fits(dit_layers(transformer), dit_width(transformer))
    window = Window(start_percent, end_percent, _NOISIEST[type(transformer).__name__])
    with acting(transformer, ppd, user, strength, window, guidance, _put_answers):
        yield


@contextlib.contextmanager
def dit_branch(transformer: Any, ppd: PPD) -> Iterator[Branch]:
    """Give a diffusion transformer a user side whose tokens are set before each forward pass; for training.

    The tokens travel with the attention's named arguments, so gradient checkpointing sees the same ones again.

    Args:
        transformer: As for `dit_layers`. With no tokens set it is the reference, bit for bit.
        ppd: Of the same model; its attention is where the transformer is.

    Raises:
        PPDError: PPD and model don't fit; at a forward pass: tokens of another shape.
    """
    ppd.fits(dit_layers(transformer), dit_width(transformer))
    branch = Branch()

    def join(_: Any, args: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        tokens = branch.tokens
        if tokens is None:
            return None
        sample = args[0] if args else named["hidden_states"]
        if tokens.ndim != 3 or tokens.shape[0] not in (1, len(sample)) or tokens.shape[2] != ppd.width:
            raise PPDError(
                f"Cannot run the denoiser with user tokens of shape {tuple(tokens.shape)}; expected "
                f"({len(sample)}, K, {ppd.width}): one row for each of the batch."
            )
        more = {**(named.get("joint_attention_kwargs") or {}), "user_tokens": tokens}
        return args, {**named, "joint_attention_kwargs": more}

    watch = transformer.register_forward_pre_hook(join, with_kwargs=True)
    try:
        with _put_answers(transformer, ppd, [_answer(ppd, place) for place in range(len(ppd.attention.layers))]):
            yield branch
    finally:
        watch.remove()


def _answer(ppd: PPD, place: int) -> Answer:
    def answer(query: Tensor, tokens: Tensor | None) -> Tensor | None:
        if tokens is None:
            return None
        return attend(query, *ppd.attention.project(place, tokens), ppd.attention.layers[place].heads)

    return answer


class _JointProcessor:
    """A joint attention's processor that adds a user to the picture's side; without an answer, the inner one."""

    def __init__(self, inner: Any, answer: Answer | None) -> None:
        self.inner, self.answer = inner, answer

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: Any = None,
        ip_hidden_states: Any = None,
        temb: Tensor | None = None,
        ip_adapter_masks: Any = None,
        user_tokens: Tensor | None = None,
    ) -> Any:
        more = {
            "image_rotary_emb": image_rotary_emb,
            "ip_hidden_states": ip_hidden_states,
            "temb": temb,
            "ip_adapter_masks": ip_adapter_masks,
        }
        given = {name: value for name, value in more.items() if value is not None}
        answer = self.answer
        block = attn if answer is None else Block(attn, lambda query: answer(_normed(attn, query), user_tokens))
        return self.inner(block, hidden_states, encoder_hidden_states, attention_mask, **given)


def _normed(attn: Any, query: Tensor) -> Tensor:
    """The picture's query (B, N, inner) as the block itself asks with it: normed head by head where it does so."""
    if attn.norm_q is None:
        return query
    heads = query.view(*query.shape[:2], attn.heads, -1)
    out: Tensor = attn.norm_q(heads)
    return out.flatten(-2)


@contextlib.contextmanager
def _put_answers(transformer: Any, ppd: PPD, answers: Sequence[Answer]) -> Iterator[None]:
    """Put a processor around every attention's own: one that answers, or one that only bears the user's tokens."""
    named = {layer.name: answer for layer, answer in zip(ppd.attention.layers, answers, strict=True)}
    before = dict(transformer.attn_processors)
    attentions = {name: transformer.get_submodule(name.removesuffix(".processor")) for name in before}
    try:
        for name, attention in attentions.items():
            answer = named.get(name.removesuffix(".processor"))
            attention.set_processor(_JointProcessor(before[name], answer))
        yield
    finally:
        for name, attention in attentions.items():
            attention.set_processor(before[name])


def _require(transformer: Any) -> None:
    if type(transformer).__name__ not in _NOISIEST:
        raise PPDError(
            f"Cannot put a user into a {type(transformer).__name__} as into a diffusion transformer; expected one of "
            f"diffusers' {', '.join(_NOISIEST)}. Load one of those, or a PPD of your base model."
        )
