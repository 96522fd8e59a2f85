"""CLIP's two towers in plain torch, under transformers' tensor names.

One forward pass for every layout and host: that is why the same CLIP gives the same vectors everywhere. Nothing works
in place, so gradients flow through it (ComfyUI's own towers can't do that).

Shapes: N images or texts, T tokens, H width of the text tower, W of the image tower, D joint width.

Source: Radford et al. 2021, CLIP, arXiv:2103.00020. Differs: nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import EncoderError, ShapeError
from .facts import ClipFacts
from .layouts import FITTING_FILES, canonical_state, has_image_tower

__all__ = ["ImageTower", "TextStates", "TextTower", "end_positions", "image_tower", "text_model_from_state_dict"]

_Tower = TypeVar("_Tower", bound=nn.Module)


@dataclass(frozen=True)
class TextStates:
    """What a text tower gives, in the words of transformers.

    Attributes:
        last_hidden_state: (N, T, H) after the final layer norm: what SD1.5 is conditioned on.
        pooler_output: (N, H) its row at the end token: x = text_projection @ h.
        hidden_states: Layers + 1 tensors (N, T, H) before the final layer norm; [-2] is the penultimate layer.
    """

    last_hidden_state: Tensor
    pooler_output: Tensor
    hidden_states: tuple[Tensor, ...]


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise EncoderError(
                f"Cannot use this CLIP: found {heads} attention heads; expected a divisor of its width, {width}. "
                "Check the config.json beside it."
            )
        self.heads = heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        n, t, width = x.shape
        q, k, v = (
            proj(x).view(n, t, self.heads, width // self.heads).transpose(1, 2)
            for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        out: Tensor = self.out_proj(mixed.transpose(1, 2).reshape(n, t, width))
        return out


class _MLP(nn.Module):
    def __init__(self, width: int, inner: int, activation: str) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x)
        x = x * torch.sigmoid(1.702 * x) if self.activation == "quick_gelu" else F.gelu(x)
        out: Tensor = self.fc2(x)
        return out


class _Layer(nn.Module):
    def __init__(self, width: int, inner: int, heads: int, activation: str) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(width)
        self.self_attn = _Attention(width, heads)
        self.layer_norm2 = nn.LayerNorm(width)
        self.mlp = _MLP(width, inner, activation)

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x), causal)
        out: Tensor = x + self.mlp(self.layer_norm2(x))
        return out


class _Encoder(nn.Module):
    def __init__(self, layers: int, width: int, inner: int, heads: int, activation: str) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Layer(width, inner, heads, activation) for _ in range(layers))

    def forward(self, x: Tensor, causal: bool) -> tuple[Tensor, ...]:
        states = [x]
        for layer in self.layers:
            states.append(layer(states[-1], causal))
        return tuple(states)


class _TextEmbeddings(nn.Module):
    def __init__(self, vocabulary: int, positions: int, width: int) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.position_embedding = nn.Embedding(positions, width)

    def forward(self, ids: Tensor) -> Tensor:
        out: Tensor = self.token_embedding(ids) + self.position_embedding.weight[: ids.shape[1]]
        return out


class _TextCore(nn.Module):
    def __init__(self, vocabulary: int, positions: int, layers: int, width: int, inner: int, facts: ClipFacts) -> None:
        super().__init__()
        self.embeddings = _TextEmbeddings(vocabulary, positions, width)
        self.encoder = _Encoder(layers, width, inner, facts.text_heads or 1, facts.activation or "quick_gelu")
        self.final_layer_norm = nn.LayerNorm(width)


class TextTower(nn.Module):
    """A CLIP text tower with the names and outputs of transformers' `CLIPTextModel`; parameters `text_model.…`."""

    def __init__(self, vocabulary: int, positions: int, layers: int, width: int, inner: int, facts: ClipFacts) -> None:
        super().__init__()
        self.text_model = _TextCore(vocabulary, positions, layers, width, inner, facts)
        self.eos_token_id = facts.eos_token_id

    def forward(self, input_ids: Tensor, output_hidden_states: bool = True) -> TextStates:
        """Encode token ids (N, T), T at most the number of positions (77); all hidden states are always given."""
        states = self.text_model.encoder(self.text_model.embeddings(input_ids), True)
        last: Tensor = self.text_model.final_layer_norm(states[-1])
        rows = torch.arange(last.shape[0], device=last.device)
        return TextStates(last, last[rows, end_positions(input_ids, self.eos_token_id)], states)


class _ImageEmbeddings(nn.Module):
    def __init__(self, width: int, patch: int, positions: int) -> None:
        super().__init__()
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.patch_embedding = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        self.position_embedding = nn.Embedding(positions, width)

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.patch_embedding(pixels).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(pixels.shape[0], 1, -1)
        out: Tensor = torch.cat([first, patches], dim=1) + self.position_embedding.weight
        return out


class _ImageCore(nn.Module):
    def __init__(self, patch: int, positions: int, layers: int, width: int, inner: int, facts: ClipFacts) -> None:
        super().__init__()
        self.embeddings = _ImageEmbeddings(width, patch, positions)
        self.pre_layrnorm = nn.LayerNorm(width)  # transformers' spelling
        self.encoder = _Encoder(layers, width, inner, facts.vision_heads or 1, facts.activation or "quick_gelu")
        self.post_layernorm = nn.LayerNorm(width)


class ImageTower(nn.Module):
    """A CLIP image tower with its projection; parameters `vision_model.…` and `visual_projection.weight`."""

    def __init__(
        self, patch: int, positions: int, layers: int, width: int, inner: int, joint: int, facts: ClipFacts
    ) -> None:
        super().__init__()
        self.vision_model = _ImageCore(patch, positions, layers, width, inner, facts)
        self.visual_projection = nn.Linear(width, joint, bias=False)
        self.size = round((positions - 1) ** 0.5) * patch  # pixels a side

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pixels (N, 3, size, size) to joint vectors (N, D), not unit norm yet."""
        return self.vectors_and_penultimate(pixels)[0]

    def vectors_and_penultimate(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Joint vectors (N, D) of their own length, and the states (N, T, W) of the last layer but one."""
        core = self.vision_model
        states = core.encoder(core.pre_layrnorm(core.embeddings(pixels)), False)
        vectors: Tensor = self.visual_projection(core.post_layernorm(states[-1][:, 0]))
        return vectors, states[-2]


def end_positions(ids: Tensor, eos_token_id: int | None) -> Tensor:
    """Where each row's first end token is, (N,); without an id: the row's highest id, CLIP's own rule."""
    if eos_token_id is None:
        return ids.argmax(dim=-1)
    found = ids == eos_token_id
    return torch.where(found.any(dim=-1), found.int().argmax(dim=-1), ids.argmax(dim=-1))


def image_tower(state: Mapping[str, Tensor], facts: ClipFacts) -> ImageTower:
    """Build the image tower of a canonical state; weights are shared with it, not copied.

    Raises:
        EncoderError: there is no image tower, or tensors are missing or don't fit each other.
    """
    if not has_image_tower(state):
        lacking = "an image tower" if "visual_projection.weight" in state else "a projected image tower"
        raise EncoderError(f"Cannot encode images: found a CLIP without {lacking}; expected one. {FITTING_FILES}.")
    patches = state["vision_model.embeddings.patch_embedding.weight"]
    positions = state["vision_model.embeddings.position_embedding.weight"].shape[0]
    layers, inner = _depth(state, "vision_model.")
    joint, width = state["visual_projection.weight"].shape
    with torch.device("meta"):
        tower = ImageTower(patches.shape[-1], positions, layers, width, inner, joint, facts.settled(state))
    return _fill(tower, state)


def text_model_from_state_dict(state_dict: Mapping[str, Tensor], facts: ClipFacts | None = None) -> TextTower:
    """Build a differentiable text tower from a state dict of any layout, such as ComfyUI's `transformer.state_dict()`.

    Its parameter names are `text_model.…`, exactly those of ComfyUI's `comfy.clip_model.CLIPTextModel`, so that weights
    adapted on it go back into the host's module by name (`adapters.steering.adapt_text_weights`).

    Args:
        state_dict: Tensors; shared, not copied. A projection in it is not used.
        facts: Activation, heads and end token; None takes the standard for the shapes. ComfyUI runs every CLIP-L with
            quick_gelu and CLIP-H and bigG with gelu, which is the standard here too; a custom
            `clip_l_model_config` must be passed on (`ClipFacts(activation=…, text_heads=…)`).

    Raises:
        EncoderError: it holds no text tower, or tensors are missing or don't fit each other.
    """
    state = canonical_state(state_dict)
    tokens = state.get("text_model.embeddings.token_embedding.weight")
    positions = state.get("text_model.embeddings.position_embedding.weight")
    if tokens is None or positions is None:
        raise EncoderError(f"Cannot encode text: found a CLIP without a text tower; expected one. {FITTING_FILES}.")
    layers, inner = _depth(state, "text_model.")
    settled = (facts or ClipFacts()).settled(state)
    with torch.device("meta"):
        tower = TextTower(tokens.shape[0], positions.shape[0], layers, tokens.shape[1], inner, settled)
    return _fill(tower, state)


def _depth(state: Mapping[str, Tensor], tower: str) -> tuple[int, int]:
    """Number of layers, and width inside the first one's MLP."""
    start = f"{tower}encoder.layers."
    numbers = {int(name.removeprefix(start).split(".", 1)[0]) for name in state if name.startswith(start)}
    first = state.get(f"{start}0.mlp.fc1.weight")
    if first is None or numbers != set(range(len(numbers))):
        raise EncoderError(f"Cannot use this CLIP: found a gap in {start}*; expected all layers. Get the file again.")
    return len(numbers), int(first.shape[0])


def _fill(tower: _Tower, state: Mapping[str, Tensor]) -> _Tower:
    wanted = tower.state_dict()
    missing = sorted(name for name in wanted if name not in state)
    if missing:
        raise EncoderError(f"Cannot use this CLIP: {missing[0]} and {len(missing) - 1} more are missing. Get it again.")
    for name, tensor in wanted.items():
        if state[name].shape != tensor.shape:
            raise ShapeError(
                f"Cannot use this CLIP: {name} is {tuple(state[name].shape)}; expected {tuple(tensor.shape)}. "
                "Get the file again."
            )
    floats = {name: state[name].detach().to(torch.float32).contiguous() for name in wanted}
    tower.load_state_dict(floats, assign=True)
    return tower.eval().requires_grad_(False)
