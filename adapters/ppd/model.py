"""A PPD: user attention, the encoder that makes a person's tokens from answers, and what both fit.

Shapes: B people, N pairs, D image vectors, K tokens, W their width.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import PPDError
from .answers import MOST_PAIRS, encode_user, require_pairs
from .attention import UserAttention
from .layers import LayerShape, base_of
from .user import User
from .user_encoder import NegativeEncoder, UserEncoder

__all__ = ["BASES", "MOST_PAIRS", "PPD", "UserEncoder", "encode_user"]

BASES = ("playground", "sd15", "sdxl", "cascade", "custom")  # custom: the layers of no published base


class PPD(nn.Module):
    """One denoiser's user attention with its user encoder.

    Attributes:
        attention: The keys and values of all layers.
        encoder: None where only the attention is there.
        base: Family of the model that it is for: one of `BASES`.
        name: For people, never compared.
        image_encoder, image_encoder_name: Identity and name of what makes the image vectors; "" for none.
        created: ISO 8601 in UTC; "" when unknown.
    """

    def __init__(
        self,
        attention: UserAttention,
        encoder: nn.Module | None,
        base: str,
        name: str = "",
        image_encoder: str = "",
        image_encoder_name: str = "",
        created: str = "",
    ) -> None:
        """Put the two together.

        Raises:
            PPDError: an unknown base, or an encoder that is none or makes tokens of another width.
        """
        super().__init__()
        if base not in BASES:
            raise PPDError(f"Cannot make a PPD for {base!r}; expected one of {', '.join(BASES)}.")
        if encoder is not None:
            if not isinstance(encoder, UserEncoder):
                raise PPDError(f"Cannot make a PPD with a {type(encoder).__name__}; expected a user encoder.")
            if encoder.width != attention.width:
                raise PPDError(
                    f"Cannot make a PPD: its encoder makes tokens of width {encoder.width}, its attention takes "
                    f"{attention.width}; expected the same."
                )
        self.attention, self.encoder = attention, encoder
        self.base, self.name, self.created = base, name, created
        self.image_encoder, self.image_encoder_name = image_encoder, image_encoder_name
        self._hashed: tuple[object, str] = (None, "")

    @property
    def width(self) -> int:
        """W."""
        return self.attention.width

    @property
    def identity(self) -> str:
        """64 hexadecimal digits: sha256 over kind, layers, names and fp16 values, the same in every precision.

        Raises:
            PPDError: NaN or infinity among the weights.
        """
        state = [("" if p.is_inference() else p._version, p.data_ptr()) for p in self.parameters()]
        if self._hashed[0] != state:
            self._hashed = (state, _identity(self))
        return self._hashed[1]

    def user(self, chosen: Tensor, rejected: Tensor, person: str = "") -> User:
        """Make a person's embedding from pairs; their order changes nothing.

        Args:
            chosen, rejected: (N, D) unit vectors of the image encoder that the PPD was trained with; (N, T, H) hidden
                states for a user encoder that takes those.
            person: Who, for people to read.

        Raises:
            PPDError: no pair, another width, NaN, or answers that say nothing because they are of equal pictures or
                cancel each other.
        """
        encoder = self._encoder(person)
        require_pairs(chosen, rejected, person)
        weight = next(encoder.parameters())
        one, other = (side[None].to(weight.device, weight.dtype) for side in (chosen, rejected))
        try:
            with torch.no_grad():
                tokens = encoder(one, other, None)[0]
                negative = encoder.negative(one, other, None)[0] if isinstance(encoder, NegativeEncoder) else None
        except (RuntimeError, IndexError) as error:
            raise PPDError(
                f"Cannot make an embedding of {person or 'this person'!r}: vectors of width {chosen.shape[-1]} don't "
                f"fit the encoder of {self._shown} ({error}). Encode the pictures with {self._image_encoder_shown}."
            ) from error
        return User(
            tokens,
            self.identity,
            negative,
            person=person,
            pairs=len(chosen),
            encoder=self.image_encoder,
            encoder_name=self.image_encoder_name,
            base=self.base,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )

    def fits(self, layers: Sequence[LayerShape], width: int | None = None) -> None:
        """Refuse a model with other layers than this PPD's.

        Args:
            layers: Of the model, in order.
            width: Of its text tokens; None where that is not known.

        Raises:
            PPDError: names base, what was found and what fits.
        """
        own = self.attention.layers
        if tuple(layers) == own and width in (None, self.width):
            return
        if len(layers) != len(own):
            found, wanted = f"{len(layers)} cross-attentions", f"the {len(own)} of {self.base}"
        elif tuple(layers) != own:
            other, mine = next((a, b) for a, b in zip(layers, own, strict=True) if a != b)
            found, wanted = f"{_shape(other)} at {other.name}", f"{_shape(mine)} at {mine.name}"
        else:
            found, wanted = f"text tokens of width {width}", f"{self.width}"
        family = base_of(layers)
        raise PPDError(
            f"Cannot use {self._shown} here: the model{f', of the family {family},' if family else ''} has {found}; "
            f"expected {wanted}. Load a {self.base} model, or a PPD that was trained on "
            f"{family or 'a model like this one'}."
        )

    def takes(self, user: User) -> None:
        """Refuse a user of another PPD.

        Raises:
            PPDError: names both.
        """
        who = user.person or "this user"
        if user.width != self.width:
            raise PPDError(
                f"Cannot use the embedding of {who!r} with {self._shown}: its tokens have width {user.width}, made "
                f"for {user.base or 'another base'}; expected {self.width}, for {self.base}. Encode the person again "
                "with this PPD."
            )
        if user.ppd != self.identity:
            raise PPDError(
                f"Cannot use the embedding of {who!r} with {self._shown}: it was made by the PPD {user.ppd[:12]} "
                f"({user.base or 'base unknown'}); expected {self.identity[:12]} ({self.base}). Load that PPD, or "
                "encode the person again with this one."
            )

    @property
    def _shown(self) -> str:
        return f"the PPD {self.name!r} ({self.base})" if self.name else f"this PPD ({self.base})"

    @property
    def _image_encoder_shown(self) -> str:
        return self.image_encoder_name or self.image_encoder[:12] or "the encoder that the PPD was trained with"

    def _encoder(self, person: str) -> Any:
        if self.encoder is None:
            raise PPDError(
                f"Cannot make an embedding of {person or 'this person'!r}: {self._shown} has no user encoder; expected "
                "one that was trained with it. Load another PPD, or a user file made for this one."
            )
        return self.encoder


def _shape(layer: LayerShape) -> str:
    return f"{layer.query} to {layer.inner} to {layer.out} channels in {layer.heads} heads"


def _identity(ppd: PPD) -> str:
    encoder: Any = ppd.encoder
    about = {
        "kind": encoder.kind if encoder is not None else "",
        "config": encoder.config if encoder is not None else {},
        "layers": [[layer.name, layer.query, layer.inner, layer.heads, layer.out] for layer in ppd.attention.layers],
    }
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name, tensor in sorted(ppd.state_dict().items()):
        values = tensor.detach().to("cpu", torch.float16).contiguous()
        if not bool(torch.isfinite(values).all()):
            raise PPDError(
                f"Cannot use {ppd._shown}: {name} holds NaN, infinity or numbers beyond fp16; expected numbers. Get "
                "or train it again."
            )
        digest.update(f"{name} {tuple(values.shape)}\n".encode())
        digest.update(values.numpy().tobytes())
    return digest.hexdigest()
