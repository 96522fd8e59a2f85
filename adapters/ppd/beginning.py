"""The PPD that a training begins with: what makes people's tokens, and the attention that these go into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from ..encoders import ImageTextEncoder
from ..errors import EncoderMismatchError, PPDError
from ..files.ppd_file import load_ppd
from ..places import typed_path
from .attention import UserAttention
from .base import Base
from .denoisers import layers_in
from .describing import Described, Describer
from .ip_adapter import as_start
from .learned import LearnedTokens
from .model import PPD
from .pairs_encoder import PairsEncoder
from .vlm import VLMEncoder

__all__ = ["KINDS", "KnownBy", "begun"]

KINDS = ("pairs", "vlm", "learned")
MOST_NAMES = 1000  # of people with tokens of their own: their names stand in the file's header


@dataclass(frozen=True)
class KnownBy:
    """What people are known by.

    Attributes:
        kind: "pairs": vectors of the pictures that they chose and rejected. "vlm": profiles of a vision-language model.
            "learned": tokens of their own, for people or rewards that are known by name; nobody else can join later.
        describer: For "vlm".
    """

    kind: str = "pairs"
    describer: Describer = field(default_factory=Describer)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise PPDError(f"Cannot train: people known by {self.kind!r}; expected one of {', '.join(KINDS)}.")


def begun(
    base: Base,
    encoder: ImageTextEncoder,
    start: Path | None,
    seed: int,
    known: KnownBy,
    names: Sequence[str],
    told: Described | None,
) -> PPD:
    """A PPD to train, that fits the model and what people are known by.

    Args:
        base: Of the model.
        encoder: Of image vectors.
        start: A PPD's file to train further where its people are known by the same, else only its attention is taken;
            or an IP-Adapter's, whose attention is taken.
        seed: Of what is new.
        known: What people are known by. names: Of them. told: Of the model that described them.

    Raises:
        EncoderMismatchError: people of `start` were read from other vectors.
        FileFormatError, PPDError: `start` is no such file or doesn't fit the model; too many names.
    """
    layers, width = layers_in(base.denoiser)
    own = _encoder(known, encoder.dim, width, seed, names, told)
    image_encoder, name = {
        "pairs": (encoder.identity, encoder.name),
        "vlm": ("", "") if told is None else (told.identity, told.name),
        "learned": ("", ""),
    }[known.kind]
    if start is None:
        ppd = PPD(UserAttention(layers, width, seed), own, base.name)
    else:
        ppd = load_ppd(typed_path(start))
        kind = getattr(ppd.encoder, "kind", "")
        if kind == known.kind and ppd.image_encoder != image_encoder:
            raise EncoderMismatchError(
                f"Cannot start from {start}: its people were read from vectors of {ppd.image_encoder_name or 'another'}"
                f" ({ppd.image_encoder[:12]}); found {name} ({image_encoder[:12]}). Choose the first one."
            )
        if kind in ("", "ip_adapter") and known.kind == "pairs":
            ppd = as_start(ppd, encoder.dim, seed=seed)
        elif kind != known.kind or (kind != "pairs" and _config(ppd) != own.config):
            ppd = PPD(ppd.attention, own, ppd.base, name=f"started from {ppd.name or typed_path(start).stem}")
        ppd.fits(layers, width)
    ppd.image_encoder, ppd.image_encoder_name = image_encoder, name
    return ppd


def _config(ppd: PPD) -> Any:
    """Of its user encoder: another one knows others by name, or takes another model's states."""
    encoder: Any = ppd.encoder
    return encoder.config


def _encoder(
    known: KnownBy, image_width: int, width: int, seed: int, names: Sequence[str], told: Described | None
) -> Any:
    if known.kind == "learned":
        if len(names) > MOST_NAMES:
            raise PPDError(
                f"Cannot learn tokens of {len(names):,} people by name; expected {MOST_NAMES:,} at most. Have them "
                "known by their pairs: --user-encoder pairs."
            )
        return LearnedTokens(names, width, seed=seed)
    if known.kind == "vlm":
        assert told is not None
        return _seeded(lambda: VLMEncoder(told.states, told.width, width), seed)
    return PairsEncoder(image_width, width, seed=seed)


def _seeded(make: Any, seed: int) -> nn.Module:
    """A module whose first weights depend on the seed alone."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made: nn.Module = make()
    return made
