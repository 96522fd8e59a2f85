"""diffusers' AutoencoderKL, at any size, under its own tensor names.

ComfyUI's version has 32 groups in every norm and knows the published sizes only; diffusers itself isn't there in a
ComfyUI process.

Shapes: B images, C channels, Z latent channels, H and W pixels, h and w latents (H / 2^(levels - 1)).
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_EPS = 1e-6  # of every GroupNorm in diffusers' autoencoder


class _ResnetBlock(nn.Module):
    def __init__(self, width_in: int, width_out: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, width_in, _EPS)
        self.conv1 = nn.Conv2d(width_in, width_out, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, width_out, _EPS)
        self.conv2 = nn.Conv2d(width_out, width_out, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(width_in, width_out, 1) if width_in != width_out else None

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class _Attention(nn.Module):
    """Self-attention over all pixels, one head."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.group_norm = nn.GroupNorm(groups, width, _EPS)
        self.to_q = nn.Linear(width, width)
        self.to_k = nn.Linear(width, width)
        self.to_v = nn.Linear(width, width)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.group_norm(x).flatten(2).transpose(1, 2)  # (B, h w, C)
        mixed = F.scaled_dot_product_attention(self.to_q(tokens), self.to_k(tokens), self.to_v(tokens))
        return x + self.to_out[0](mixed).transpose(1, 2).reshape(x.shape)


class _Resample(nn.Module):
    def __init__(self, width: int, up: bool) -> None:
        super().__init__()
        self.up = up
        self.conv = nn.Conv2d(width, width, 3, stride=1 if up else 2, padding=1 if up else 0)

    def forward(self, x: Tensor) -> Tensor:
        # On the way down the padding is on the right and the bottom only, as in the original autoencoder.
        x = F.interpolate(x, scale_factor=2.0, mode="nearest") if self.up else F.pad(x, (0, 1, 0, 1))
        out: Tensor = self.conv(x)
        return out


class _Level(nn.Module):
    def __init__(self, widths: list[int], groups: int, resample: str | None) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(_ResnetBlock(a, b, groups) for a, b in itertools.pairwise(widths))
        if resample is not None:
            setattr(self, f"{resample}samplers", nn.ModuleList([_Resample(widths[-1], resample == "up")]))

    def forward(self, x: Tensor) -> Tensor:
        for blocks in self.children():
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x)
        return x


class _Middle(nn.Module):
    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(_ResnetBlock(width, width, groups) for _ in range(2))
        self.attentions = nn.ModuleList([_Attention(width, groups)])

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.resnets[1](self.attentions[0](self.resnets[0](x)))
        return out


class _Encoder(nn.Module):
    def __init__(self, channels: int, widths: list[int], layers: int, latents: int, groups: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            _Level([before, *[width] * layers], groups, "down" if level < len(widths) - 1 else None)
            for level, (before, width) in enumerate(zip([widths[0], *widths], widths, strict=False))
        )
        self.mid_block = _Middle(widths[-1], groups)
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], _EPS)
        self.conv_out = nn.Conv2d(widths[-1], 2 * latents, 3, padding=1)  # mean and log variance

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        out: Tensor = self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x))))
        return out


class _Decoder(nn.Module):
    def __init__(self, channels: int, widths: list[int], layers: int, latents: int, groups: int) -> None:
        super().__init__()
        upward = widths[::-1]
        self.conv_in = nn.Conv2d(latents, upward[0], 3, padding=1)
        self.mid_block = _Middle(upward[0], groups)
        self.up_blocks = nn.ModuleList(
            _Level([before, *[width] * (layers + 1)], groups, "up" if level < len(widths) - 1 else None)
            for level, (before, width) in enumerate(zip([upward[0], *upward], upward, strict=False))
        )
        self.conv_norm_out = nn.GroupNorm(groups, upward[-1], _EPS)
        self.conv_out = nn.Conv2d(upward[-1], channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mid_block(self.conv_in(x))
        for block in self.up_blocks:
            x = block(x)
        out: Tensor = self.conv_out(F.silu(self.conv_norm_out(x)))
        return out


class Autoencoder(nn.Module):
    """Images to latents and back; `encode` and `decode` are what ComfyUI's VAE calls.

    Args:
        config: The config.json of a diffusers AutoencoderKL.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        widths, layers = list(config["block_out_channels"]), config["layers_per_block"]
        latents, groups = config["latent_channels"], config.get("norm_num_groups", 32)
        self.encoder = _Encoder(config["in_channels"], widths, layers, latents, groups)
        self.decoder = _Decoder(config["out_channels"], widths, layers, latents, groups)
        self.quant_conv = nn.Conv2d(2 * latents, 2 * latents, 1)
        self.post_quant_conv = nn.Conv2d(latents, latents, 1)

    def encode(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> (B, Z, h, w): the mean, which is what ComfyUI's own autoencoder gives."""
        mean: Tensor = torch.chunk(self.quant_conv(self.encoder(pixels)), 2, dim=1)[0]
        return mean

    def decode(self, latents: Tensor, **_: Any) -> Tensor:
        """(B, Z, h, w) -> (B, 3, H, W) in [-1, 1], not clamped."""
        pixels: Tensor = self.decoder(self.post_quant_conv(latents))
        return pixels
