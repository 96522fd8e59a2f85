"""IP-Adapter files as people have them: a PPD at once without training, and start weights for training one.

Their image tokens enter the denoiser just as a user's do (own keys and values beside the text's, shared query), so such
a file is a user attention whose "user encoder" was trained on pictures, not on preferences: chosen pictures become the
user's tokens, rejected ones the tokens of the unconditional half, which guidance moves away from.

Several pictures are averaged before the projector's last norm, rather than all their tokens put side by side: the
number of tokens, and with it the cost, stays the one that the file was trained with; users of different numbers of
answers can be blended; and what all chosen pictures share remains while the subjects of single ones cancel.

Shapes: B users, N pairs, D width of a picture's vector, K tokens, W their width, T hidden states of H of a picture.

Source: Ye et al. 2023, IP-Adapter, arXiv:2308.06721.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from ..encoders import ImageTextEncoder
from ..errors import EncoderMismatchError, PPDError
from .attention import UserAttention
from .ip_file import read_ip_state
from .ip_projectors import LinearProjector, MLPProjector, Resampler, projector_of
from .layers import LayerShape, base_of, standard_layers
from .model import PPD
from .pairs_encoder import PairsEncoder

__all__ = ["IPAdapterEncoder", "as_start", "read"]

_UNIT = 1e-2  # a vector whose length is that near 1 lost its own
_UNTRAINED = " (IP-Adapter, untrained)"
_WIDTHS = {"sd15": 768, "sdxl": 2048}
_TOWERS = {
    768: "OpenAI's CLIP ViT-L/14",
    1024: "CLIP ViT-H/14 (laion2b_s32b_b79k)",
    1280: "CLIP ViT-bigG/14 (laion2b_s39b_b160k)",
}


class IPAdapterEncoder(nn.Module):
    """Pictures to tokens by the projector of an IP-Adapter; a `UserEncoder` that was never trained on preferences.

    Attributes:
        projector: LinearProjector (base), MLPProjector (full) or Resampler (plus).
        image_width: D; for plus and full H, the width of the image tower's penultimate hidden states.
    """

    kind = "ip_adapter"

    def __init__(self, projector: LinearProjector | MLPProjector | Resampler) -> None:
        super().__init__()
        self.projector = projector

    @property
    def tokens(self) -> int:
        """K; 0 where there is one for each hidden state of a picture (full)."""
        return self.projector.tokens

    @property
    def width(self) -> int:
        """W."""
        return self.projector.width

    @property
    def image_width(self) -> int:
        """D or H."""
        return self.projector.image_width

    @property
    def config(self) -> dict[str, Any]:
        """Empty: names and shapes of the tensors say it all (`projector_of`)."""
        return {}

    def look(self, encoder: ImageTextEncoder, pictures: Sequence[Image.Image]) -> Tensor:
        """What this encoder needs to see of pictures: (N, D) vectors of their own length, or (N, T * H) states.

        The vectors that Palate keeps have length 1, and only one for a picture.

        Raises:
            ImageError: a picture that can't be used.
        """
        vectors, states = encoder.image_states(pictures)
        return states.flatten(1) if self.projector.hidden else vectors

    def forward(self, chosen: Tensor, rejected: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Tokens of the chosen pictures.

        Args:
            chosen: (B, N, D) vectors of their own length, or (B, N, T * H) hidden states for plus and full; `look`.
            rejected: Not looked at here, see `negative`.
            mask: (B, N), True where there is a pair; None: everywhere.

        Returns:
            (B, K, W); zeros, the branch off, for somebody without a pair.

        Raises:
            PPDError: vectors of another width, or of length 1, which no image tower gives.
        """
        self._check(chosen)
        people, pairs = chosen.shape[:2]
        weight = next(self.projector.parameters())
        there = (torch.ones(people, pairs) if mask is None else mask).to(weight)
        shape = (people * pairs, -1, self.image_width) if self.projector.hidden else (people * pairs, self.image_width)
        each = self.projector.tokens_of(chosen.to(weight).reshape(shape))
        each = each.view(people, pairs, *each.shape[1:])  # [B, N, K, W]
        mean = (each * there[:, :, None, None]).sum(dim=1) / there.sum(dim=1).clamp(min=1)[:, None, None]
        # Nobody's tokens are zeros after the norm, too: its bias would switch the branch on.
        return self.projector.normed(mean) * there.any(dim=1)[:, None, None]

    def negative(self, chosen: Tensor | None, rejected: Tensor, mask: Tensor | None = None) -> Tensor:
        """Tokens of the rejected pictures, (B, K, W), for the unconditional half; arguments as in `forward`."""
        return self.forward(rejected, None, mask)

    def _check(self, images: Tensor) -> None:
        hidden, width = self.projector.hidden, self.image_width
        if images.ndim != 3 or (images.shape[-1] % width if hidden else images.shape[-1] != width):
            takes = f"hidden states of {width} each" if hidden else f"vectors of {width}"
            hint = (
                "This is a plus or full IP-Adapter: choose the image encoder that it was trained with, or use the base "
                "IP-Adapter."
                if hidden
                else f"Choose {_TOWERS.get(width, 'the image encoder that it was trained with')} as image encoder."
            )
            raise PPDError(
                f"Cannot encode a user: found pictures as {tuple(images.shape)}; expected (users, pairs, numbers), "
                f"{takes}. {hint}"
            )
        lengths = images.float().norm(dim=-1)
        if not hidden and images.numel() and bool(((lengths - 1).abs() < _UNIT).all()):
            raise PPDError(
                "Cannot encode a user: found vectors of length 1; expected them as the image tower makes them, since "
                "an IP-Adapter's projector was trained on those. Give it pictures (`look`)."
            )


def read(
    source: str | Path | Mapping[str, Any],
    name: str = "",
    layers: Sequence[LayerShape] | None = None,
    image_encoder: ImageTextEncoder | None = None,
    precision: torch.dtype = torch.float32,
) -> PPD:
    """Read an IP-Adapter as a PPD that needs no training.

    Args:
        source: A `.safetensors` file, a `.bin` or `.pt` pickle (tensors only, nothing in it is run), or its tensors:
            `image_proj.…` and `ip_adapter.N.to_k_ip.weight`, flat or nested.
        name: For people; None takes the file's.
        layers: Of the denoiser that it is for, in the order of diffusers' attention processors; None finds the base
            whose layers fit, SD1.5 or SDXL.
        image_encoder: The tower that it was trained with. A file doesn't name it: only its width can be checked. None
            leaves it open until somebody is encoded.
        precision: Of the attention's weights in memory.

    Raises:
        FileFormatError: no such file, too large, damaged, or a pickle with more than tensors in it.
        PPDError: no IP-Adapter for a UNet, or of a base or projector that isn't supported; it names what was found.
    """
    name = name or (Path(source).stem if isinstance(source, str | Path) else "IP-Adapter")
    images, pairs = read_ip_state(source, name)
    width = pairs[0][0].shape[1]
    base, shapes = _fitting(pairs, width, layers, name)
    attention = UserAttention(shapes, width, seed=None)
    attention.load_state_dict(
        {
            f"{side}.{place}.weight": tensor.detach().to(precision)
            for place, both in enumerate(pairs)
            for side, tensor in zip(("keys", "values"), both, strict=True)
        },
        assign=True,
    )
    encoder = IPAdapterEncoder(projector_of(images, width, name))
    if image_encoder is None:
        tower = "" if encoder.projector.hidden else _TOWERS.get(encoder.image_width, "")
        return PPD(attention, encoder, base, name + _UNTRAINED, image_encoder_name=tower)
    _require_width(encoder, image_encoder, name)
    return PPD(attention, encoder, base, name + _UNTRAINED, image_encoder.identity, image_encoder.name)


def _require_width(encoder: IPAdapterEncoder, images: ImageTextEncoder, name: str) -> None:
    """Refuse an image tower whose vectors or hidden states are of another width."""
    hidden, wanted = encoder.projector.hidden, encoder.image_width
    found = images.hidden_width if hidden else images.dim
    if found != wanted:
        tower = (
            "CLIP ViT-H/14 (laion2b_s32b_b79k)" if hidden else _TOWERS.get(wanted, "the one that it was trained with")
        )
        raise EncoderMismatchError(
            f"Cannot use the IP-Adapter {name!r} with {images.name}: that gives {'states' if hidden else 'vectors'} of "
            f"{found} numbers; expected {wanted}. Load {tower} as image encoder."
        )


def as_start(ppd: PPD, image_width: int, tokens: int = 4, seed: int = 0) -> PPD:
    """An IP-Adapter's attention as start weights for training a PPD, with a fresh `pairs` encoder.

    Its values aren't zero, so the first step's policy is not the base model for whoever has tokens; the reference still
    is, since it is the branch switched off. The name says where it started.

    Args:
        ppd: From `read`; left as it is.
        image_width: Width of the image vectors that the new encoder will see.
        tokens: Of a user.
        seed: Of the encoder's first weights.

    Raises:
        PPDError: sizes that no encoder has.
    """
    width = ppd.attention.width
    attention = UserAttention(ppd.attention.layers, width, seed=None)
    attention.load_state_dict(ppd.attention.state_dict())
    encoder = PairsEncoder(image_width, width, tokens=tokens, seed=seed)
    return PPD(attention, encoder, ppd.base, name=f"started from the IP-Adapter {ppd.name.removesuffix(_UNTRAINED)}")


def _fitting(
    pairs: Sequence[tuple[Tensor, Tensor]], width: int, layers: Sequence[LayerShape] | None, name: str
) -> tuple[str, tuple[LayerShape, ...]]:
    """The base whose layers have these widths, and its layers."""
    inner = [keys.shape[0] for keys, _ in pairs]
    family = next((base for base, wide in _WIDTHS.items() if wide == width), "")
    shapes = tuple(layers) if layers is not None else standard_layers(family) if family else ()
    if [shape.inner for shape in shapes] == inner:
        return base_of(shapes) or "custom", shapes
    wanted = "SD1.5's 16 layers of width 768 or SDXL's 70 of 2048" if layers is None else f"{len(layers)} layers"
    raise PPDError(
        f"Cannot use the IP-Adapter {name!r}: it has {len(inner)} attention layers that take tokens of width {width}; "
        f"expected {wanted}. Get the IP-Adapter of your base model."
    )
