"""A PPD: user attention, the encoder that makes a person's tokens from answers, and what both fit.

Shapes: B people, N pairs, D image vectors, K tokens, W their width.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any, Protocol, runtime_checkable

import torch
from PIL import Image
from torch import Tensor, nn

from ..comparisons import PreferenceStore
from ..encoders import ImageTextEncoder, encode_readable
from ..errors import EncoderMismatchError, ImageError, NotEnoughAnswersError, PPDError
from .attention import UserAttention
from .layers import LayerShape, base_of
from .user import User

__all__ = ["BASES", "MOST_PAIRS", "PPD", "NegativeEncoder", "PictureEncoder", "UserEncoder", "encode_user"]

BASES = ("playground", "sd15", "sdxl", "cascade", "custom")  # custom: the layers of no published base
MOST_PAIRS = 16


@runtime_checkable
class UserEncoder(Protocol):
    """What makes a person's tokens; each is an `nn.Module`, too.

    Attributes:
        kind: "pairs", "vlm", "learned" or "ip_adapter".
        tokens: K. width: W.
        config: JSON, enough to build it again.
    """

    kind: str
    tokens: int
    width: int
    config: dict[str, Any]

    def __call__(self, chosen: Tensor, rejected: Tensor, mask: Tensor | None, /) -> Tensor:
        """Tokens (B, K, W) from vectors (B, N, D) each, in no order of the pairs; mask (B, N) tells which are pairs.

        With no pair at all: the average person.
        """


@runtime_checkable
class NegativeEncoder(Protocol):
    """A user encoder that has something for the unconditional half of guidance."""

    def negative(self, chosen: Tensor, rejected: Tensor, mask: Tensor | None, /) -> Tensor:
        """Tokens (B, K', W) from vectors (B, N, D) each."""


@runtime_checkable
class PictureEncoder(Protocol):
    """A user encoder that wants more of a picture than the unit vector that a store keeps."""

    def look(self, encoder: ImageTextEncoder, pictures: Sequence[Image.Image], /) -> Tensor:
        """(N, D) what it wants to know of each picture."""


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
        _require_pairs(chosen, rejected, person)
        device = self.attention.weight(0).device
        one, other = (side[None].to(device, torch.float32) for side in (chosen, rejected))
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


def encode_user(
    store: PreferenceStore, encoder: ImageTextEncoder, person: str, ppd: PPD, most: int = MOST_PAIRS
) -> User:
    """Make the embedding of a person from their newest answers that prefer one of two pictures.

    Args:
        store: Where the answers are.
        encoder: The image encoder that the PPD was trained with.
        person: Whose answers.
        ppd: Whose user encoder.
        most: Answers to use, >= 1.

    Raises:
        EncoderMismatchError: the PPD was trained with another image encoder.
        NotEnoughAnswersError: no answer prefers one picture, or the pictures are gone.
        PPDError: the answers say nothing, or `most` is below 1.
    """
    if most < 1:
        raise PPDError(f"Cannot make an embedding of {person!r} from {most} answers; expected 1 or more.")
    if ppd.image_encoder and ppd.image_encoder != encoder.identity:
        raise EncoderMismatchError(
            f"Cannot make an embedding of {person!r}: the PPD {ppd.name!r} ({ppd.base}) was trained with the image "
            f"encoder {ppd.image_encoder_name or 'unnamed'} ({ppd.image_encoder[:12]}); found {encoder.name} "
            f"({encoder.identity[:12]}). Load the first one."
        )
    answers = [(c.chosen, c.rejected) for c in reversed(store.comparisons(person)) if c.chosen and c.rejected]
    sides: list[tuple[Tensor, Tensor]] = []
    for start in range(0, len(answers), most):
        some = answers[start : start + most]
        vectors = _seen(store, encoder, ppd, [image for pair in some for image in pair])
        sides += [(vectors[one], vectors[other]) for one, other in some if {one, other} <= vectors.keys()]
        if len(sides) >= most:
            break
    if not sides:
        found = f"{len(answers)} whose pictures are gone" if answers else "none"
        raise NotEnoughAnswersError(
            f"Cannot make an embedding of {person!r}: found {found}; expected answers that prefer one of two "
            "pictures. Compare some pictures first; 4 are a start."
        )
    chosen, rejected = (torch.stack(side) for side in zip(*sides[:most], strict=True))
    return ppd.user(chosen, rejected, person)


def _seen(store: PreferenceStore, encoder: ImageTextEncoder, ppd: PPD, ids: Sequence[str]) -> dict[str, Tensor]:
    """What the PPD's user encoder is told of each picture (D,); pictures that can't be read are absent."""
    if not isinstance(ppd.encoder, PictureEncoder):
        return encode_readable(store, encoder, ids)
    found = {}
    for image in dict.fromkeys(ids):
        with contextlib.suppress(ImageError):
            found[image] = ppd.encoder.look(encoder, [store.image(image)])[0]
    return found


def _require_pairs(chosen: Tensor, rejected: Tensor, person: str) -> None:
    what = f"Cannot make an embedding of {person or 'this person'!r}"
    if chosen.ndim < 2 or chosen.shape != rejected.shape or len(chosen) == 0:
        raise PPDError(
            f"{what}: found vectors of shape {tuple(chosen.shape)} and {tuple(rejected.shape)}; expected (N, D) twice "
            "with at least one pair. Compare some pictures first; 4 pairs are a start."
        )
    if not bool(torch.isfinite(chosen).all() and torch.isfinite(rejected).all()):
        raise PPDError(f"{what}: its image vectors hold NaN or infinity; expected numbers. Encode the pictures again.")
    difference = (chosen - rejected).double()
    if not bool(difference.any()):
        raise PPDError(
            f"{what}: the two pictures of {'the pair' if len(chosen) == 1 else f'each of the {len(chosen)} pairs'} are "
            "the same; expected two different ones. Compare other pictures."
        )
    if not bool(_counts(chosen, rejected).any()):
        raise PPDError(
            f"{what}: each of the {len(chosen)} answers is taken back by another one; expected some that agree. "
            "Answer a few pairs again."
        )


def _counts(chosen: Tensor, rejected: Tensor) -> Tensor:
    """How much more often each pair was answered this way than the other way round, by unequal pair."""
    chosen, rejected = chosen.flatten(1), rejected.flatten(1)
    pairs = torch.stack([torch.cat([chosen, rejected], 1), torch.cat([rejected, chosen], 1)], 1)
    _, kinds = torch.unique(pairs.flatten(0, 1), dim=0, return_inverse=True)
    votes = torch.zeros(int(kinds.max()) + 1)
    this, other = kinds.view(-1, 2).unbind(1)
    votes.index_add_(0, this, torch.ones(len(this)))
    votes.index_add_(0, other, -torch.ones(len(other)))
    return votes


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
