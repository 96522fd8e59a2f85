"""CLIP's two towers in plain torch, under transformers' tensor names.

One forward pass for every layout and host: that is why the same CLIP gives the same vectors everywhere. Nothing works
in place, so gradients flow through it (ComfyUI's own towers can't do that).

Shapes: N images or texts, T tokens, H width of the text tower, W of the image tower, D joint width.

Source: Radford et al. 2021, CLIP, arXiv:2103.00020. Differs: nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import EncoderError
from .facts import ClipFacts

__all__ = ["ImageTower", "TextStates", "TextTower", "end_positions"]


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
