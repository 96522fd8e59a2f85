"""One encoder of images and texts into the joint space of a CLIP."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import EncoderError, EncoderMismatchError
from .facts import ClipFacts
from .from_tensors import image_tower_from_state_dict, text_model_from_state_dict
from .identity import clip_identity
from .layouts import FITTING_FILES, canonical_state, has_text_tower
from .pictures import as_batches, prepare
from .towers import end_positions

__all__ = ["ImageTextEncoder"]

Tokenize = Callable[[list[str]], Tensor]  # texts -> token ids (N, 77)


class EncoderTowers(nn.ModuleDict):
    """The towers of an encoder, by the name that hosts show while they load them."""


class ImageTextEncoder:
    """A CLIP: pictures and texts to unit vectors in one space.

    Shapes: N pictures or texts, D joint width, H width of the text tower.

    Attributes:
        identity: Hash of the image tower (`clip_identity`); vectors of two identities are never mixed.
        name: For people, never compared.
        dim: D.
        logit_scale: What CLIP multiplies cosines with: exp of the stored value; 100 where none is stored.
        has_text: Whether there is a text tower with its projection.
        text_projection: (D, H) float32 or None; x = text_projection @ pooled text state.
        facts: Activation, heads and normalisation as used.
    """

    def __init__(
        self,
        state_dict: Mapping[str, Tensor],
        name: str = "",
        facts: ClipFacts | None = None,
        tokenize: Tokenize | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        """Build from tensors of any layout.

        Args:
            state_dict: Both towers, or the image tower alone, under the names of open_clip, transformers, OpenAI or
                ComfyUI; computed in float32 whatever they are. Of ComfyUI: `clip_vision.model.state_dict()` and, for
                text, the text tower's `text_model.…` and a *real* `text_projection.weight` (never the one of an SD1.5
                checkpoint: ComfyUI leaves that one uninitialised).
            name: For people; "" makes one of the width.
            facts: Activation, heads and normalisation where the tensors don't tell; None is what CLIP usually has.
            tokenize: Texts to (N, 77) token ids; None uses open_clip's tokenizer where it is installed.
            device: Where the towers are.

        Raises:
            EncoderError: no image tower or no projection, or broken weights.
        """
        try:
            self._build(canonical_state(state_dict), name, facts or ClipFacts(), device)
        except EncoderError:
            raise
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise EncoderError(
                f"Cannot use {name or 'this CLIP'}: its tensors don't fit each other ({error}); expected those of one "
                "CLIP. Get the file again."
            ) from error
        self._tokenize = tokenize
        self._before_use: Callable[[], object] | None = None

    def _build(self, state: Mapping[str, Tensor], name: str, facts: ClipFacts, device: str | torch.device) -> None:
        self.facts = facts.settled(state)
        self._images = image_tower_from_state_dict(state, self.facts).to(device)
        self.identity = clip_identity(state, self.facts)
        self.dim = int(state["visual_projection.weight"].shape[0])
        self.name = name or f"CLIP {self.dim}"
        self.logit_scale = math.exp(float(state["logit_scale"])) if "logit_scale" in state else 100.0
        self.has_text = has_text_tower(state)
        projection = state.get("text_projection.weight")
        if projection is not None and projection.shape[0] != self.dim:
            projection = None  # ComfyUI's square stand-in for a projection that the file doesn't have
            self.has_text = False
        self.text_projection = None if projection is None else projection.detach().to("cpu", torch.float32).contiguous()
        self._texts = text_model_from_state_dict(state, self.facts).to(device) if self.has_text else None

    def __repr__(self) -> str:
        return f"ImageTextEncoder({self.name!r}, dim={self.dim}, identity={self.identity[:12]}…)"

    @property
    def towers(self) -> EncoderTowers:
        """Both towers as one module: whoever moves it to another device moves where this encoder computes."""
        parts: dict[str, nn.Module] = {"images": self._images}
        return EncoderTowers(parts if self._texts is None else parts | {"texts": self._texts})

    @property
    def hidden_width(self) -> int:
        """W, the width inside the image tower."""
        return int(self._images.visual_projection.in_features)

    def before_use(self, call: Callable[[], object]) -> None:
        """Have this called before each computation: a host that manages memory brings the towers there then."""
        self._before_use = call

    def encode_images(self, images: Sequence[Image.Image] | Tensor, batch_size: int = 16) -> Tensor:
        """Encode pictures of any size.

        Args:
            images: PIL images, or a tensor (N, H, W, 3) or (H, W, 3) in [0, 1].
            batch_size: Pictures at a time, >= 1.

        Returns:
            (N, D) float32 on the CPU, unit norm.

        Raises:
            ImageError: a picture that can't be used.
        """
        return self._unit(self._looked(images, batch_size, self._images))

    def image_states(self, images: Sequence[Image.Image] | Tensor, batch_size: int = 16) -> tuple[Tensor, Tensor]:
        """Encode pictures for what was trained on the image tower itself, such as an IP-Adapter.

        Args:
            images, batch_size: As for `encode_images`.

        Returns:
            (N, D) vectors of their own length, and (N, T, W) states of the tower's last layer but one; float32, CPU.

        Raises:
            ImageError: a picture that can't be used.
        """
        found = self._looked(images, batch_size, self._images.vectors_and_penultimate)
        vectors, states = (torch.cat(parts).clone().float() for parts in zip(*found, strict=True))
        return vectors, states

    def encode_texts(self, texts: Sequence[str], batch_size: int = 64) -> Tensor:
        """Encode texts, each cut after 77 tokens.

        Args:
            texts: N, of any length; "" is a text, too.
            batch_size: Texts at a time, >= 1; the vectors don't depend on it.

        Returns:
            (N, D) float32 on the CPU, unit norm.

        Raises:
            EncoderError: no text tower, no projection or no tokenizer.
        """
        if self._texts is None or self.text_projection is None:
            raise EncoderError(f"Cannot encode text with {self.name}: it holds the image tower only. {FITTING_FILES}.")
        tokenize = self._tokenize or _open_clip_tokenizer()
        device = self._ready()
        projection = self.text_projection.to(device)
        vectors = []
        with torch.inference_mode():
            for start in range(0, len(texts), batch_size):
                ids = tokenize(list(texts[start : start + batch_size])).to(device)
                # Nothing looks back from behind the end token: most of the 77 places are left out.
                ids = ids[:, : int(end_positions(ids, self._texts.eos_token_id).max()) + 1]
                vectors.append((self._texts(ids).pooler_output @ projection.T).cpu())
        return self._unit(vectors)

    def require(self, identity: str, what: str, name: str = "") -> None:
        """Refuse vectors, tastes or files of another encoder.

        Args:
            identity: Of the encoder that made `what`.
            what: For the message, such as "the taste of mara".
            name: Of that encoder, for the message.

        Raises:
            EncoderMismatchError: the identities differ.
        """
        if identity != self.identity:
            theirs = f"{name or 'another encoder'} ({identity[:12]})"
            raise EncoderMismatchError(
                f"Cannot use {what} here: it was made with {theirs}; expected {self.name} ({self.identity[:12]}). "
                "Choose that encoder, or fit the taste again with this one."
            )

    def _looked(
        self, images: Sequence[Image.Image] | Tensor, batch_size: int, look: Callable[[Tensor], Any]
    ) -> list[Any]:
        """What `look` gives for prepared pictures, batch by batch, on the CPU."""
        pictures = as_batches(images)
        device = self._ready()
        found = []
        with torch.inference_mode():
            for start in range(0, len(pictures), batch_size):
                part = pictures[start : start + batch_size]
                ready = [prepare(p, self._images.size, self.facts.mean or (), self.facts.std or ()) for p in part]
                seen = look(torch.stack(ready).to(device))
                found.append(tuple(each.cpu() for each in seen) if isinstance(seen, tuple) else seen.cpu())
        return found

    def _ready(self) -> torch.device:
        """Where the towers are, once they are where they are wanted."""
        if self._before_use is not None:
            self._before_use()
        return next(self._images.parameters()).device

    def _unit(self, vectors: list[Tensor]) -> Tensor:
        if not vectors:
            return torch.zeros(0, self.dim)
        out = torch.cat(vectors).clone().float()
        if not bool(torch.isfinite(out).all()):
            raise EncoderError(
                f"Cannot encode with {self.name}: found NaN in its vectors; expected numbers. Get it again."
            )
        return F.normalize(out, dim=-1)


def _open_clip_tokenizer() -> Tokenize:
    try:
        from open_clip.tokenizer import SimpleTokenizer
    except ImportError as missing:
        raise EncoderError(
            "Cannot encode text: this CLIP came without a tokenizer; expected tokenizer files beside it. "
            "Install open_clip_torch or put the tokenizer's files into its folder."
        ) from missing
    tokenizer: Tokenize = SimpleTokenizer()
    return tokenizer
