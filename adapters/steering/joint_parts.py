"""What is in a file of Stable Diffusion 3, 3.5 or FLUX.1, by the names and shapes of its tensors; no weight is read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ..errors import SteeringError
from ..places import typed_path
from .checkpoint_kind import Shapes, read_shapes

__all__ = ["FAMILIES", "Part", "denoiser_in", "joint_family", "parts_in"]

FAMILIES = {"sd3": "Stable Diffusion 3", "flux": "FLUX.1"}
_STARTS = {
    "denoiser": ("model.diffusion_model.", ""),
    "clip": ("text_encoders.clip_l.transformer.", "text_encoders.clip_g.transformer.", ""),
    "t5": ("text_encoders.t5xxl.transformer.", ""),
    "vae": ("first_stage_model.", "vae.", ""),
}
_SD3, _FLUX = "joint_blocks.0.context_block.attn.qkv.weight", "double_blocks.0.img_attn.norm.key_norm.scale"
_FLUX_TOO = ("img_in.weight", "txt_in.weight", "vector_in.in_layer.weight", "final_layer.linear.weight")
_WORDS = "text_model.embeddings.token_embedding.weight"
_T5 = "encoder.block.0.layer.1.DenseReluDense.wi_0.weight"
_UMT5 = "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight"  # T5 has it in its first layer alone
_VAES = ("encoder.down.0.block.0.conv1.weight", "encoder.down_blocks.0.resnets.0.conv1.weight")
_TOLD_BY = "decoder.conv_in.weight"
# Tensors that a denoiser's sizes are read off, and how many dimensions each has.
_SIZES = {
    "sd3": {"context_embedder.weight": 2, "y_embedder.mlp.0.weight": 2, "x_embedder.proj.weight": 4, "pos_embed": 3,
            "final_layer.linear.weight": 2},
    "flux": {**dict.fromkeys(_FLUX_TOO, 2), _FLUX: 1},
}  # fmt: skip
_NORM = "joint_blocks.0.x_block.attn.ln_q.weight"  # only some of SD3 have it


@dataclass(frozen=True, eq=False)
class Part:
    """One network in a file.

    Attributes:
        kind: "denoiser", "clip", "t5" or "vae". path: Of the file.
        start: Of its tensors' names there. shapes: By their names without it.
    """

    kind: str
    path: Path
    start: str
    shapes: Shapes

    @property
    def count(self) -> int:
        """Numbers in it."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    @property
    def width(self) -> int:
        """Of a text encoder's states; an autoencoder's channels; how many numbers a denoiser is told of each token."""
        if self.kind == "denoiser":
            return self.shapes["context_embedder.weight" if self.family == "sd3" else "txt_in.weight"][1]
        return self.shapes[{"clip": _WORDS, "t5": _T5, "vae": _TOLD_BY}[self.kind]][1]

    @property
    def pooled(self) -> int:
        """How wide a CLIP's pooled vector is once projected, 0 where it has no projection; what a denoiser is told."""
        if self.kind == "denoiser":
            sd3 = self.family == "sd3"
            return self.shapes["y_embedder.mlp.0.weight" if sd3 else "vector_in.in_layer.weight"][1]
        return self.shapes.get("text_projection.weight", (0,))[0]

    @property
    def channels(self) -> int:
        """Of a denoiser's latents."""
        sd3 = self.family == "sd3"
        return self.shapes["x_embedder.proj.weight"][1] if sd3 else self.shapes["img_in.weight"][1] // 4

    @property
    def family(self) -> str:
        """Of a denoiser: "sd3" or "flux"."""
        return "sd3" if _SD3 in self.shapes else "flux"

    @property
    def odd(self) -> str:
        """The first of a denoiser's tensors by which its sizes can't be told: it is missing, or packed; "" for none."""
        wanted = _SIZES[self.family] | ({_NORM: 1} if _NORM in self.shapes else {})
        return next((name for name, rank in wanted.items() if not _sized(self.shapes, name, rank)), "")

    @property
    def said(self) -> str:
        """What it is, for people."""
        if self.kind == "denoiser":
            return f"a denoiser of {FAMILIES[self.family]}"
        kind = {"clip": "a CLIP text encoder", "t5": "a T5", "vae": "a VAE"}[self.kind]
        return f"{kind} with {self.width} channels" if self.kind == "vae" else f"{kind} {self.width} wide"


def parts_in(path: Path) -> Sequence[Part]:
    """What is in a file, as far as it is known; nothing for what can't be read."""
    try:
        about = path.stat()
    except OSError:
        return ()
    return _read(path, about.st_size, about.st_mtime_ns)


def denoiser_in(path: Path) -> Part | None:
    """The denoiser in a file, where it is of SD3 or Flux."""
    return next((part for part in parts_in(path) if part.kind == "denoiser"), None)


def joint_family(path: str | Path) -> str | None:
    """Return "sd3" or "flux" where a single file's denoiser is of it, None for all else."""
    found = denoiser_in(typed_path(path))
    return None if found is None else found.family


@lru_cache(maxsize=512)
def _read(path: Path, _size: int, _time: int) -> tuple[Part, ...]:
    try:
        shapes = read_shapes(path)
    except SteeringError:
        return ()
    found = []
    for kind, starts in _STARTS.items():
        for start in starts:
            if _is(kind, start, shapes):
                own = {name.removeprefix(start): shape for name, shape in shapes.items() if name.startswith(start)}
                found.append(Part(kind, path, start, own))
    return tuple(found)


def _is(kind: str, start: str, shapes: Shapes) -> bool:
    def has(*names: str) -> bool:
        return all(start + name in shapes for name in names)

    if kind == "denoiser":
        return has(_SD3, "context_embedder.weight", "y_embedder.mlp.0.weight") or has(_FLUX, *_FLUX_TOO)
    if kind == "clip":
        return _sized(shapes, start + _WORDS, 2)
    if kind == "t5":
        return _sized(shapes, start + _T5, 2) and has("shared.weight") and not has(_UMT5)
    return _sized(shapes, start + _TOLD_BY, 4) and any(_sized(shapes, start + name, 4) for name in _VAES)


def _sized(shapes: Shapes, name: str, rank: int) -> bool:
    """Whether a tensor is there with so many dimensions; packed ones have fewer, or a last one of 1."""
    shape = shapes.get(name, ())
    return len(shape) == rank and shape[-1] > 1
