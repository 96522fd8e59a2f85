"""Training the playground's autoencoder."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from .cards import as_images, training_cards
from .loop import train
from .models import new_vae

__all__ = ["sharpen", "train_vae"]

STEPS = 3600
BATCH = 4
KL = 2e-3  # weight of the divergence from a standard normal, in nats per latent number
SCALES = {1: 1.0, 2: 1.0, 4: 2.0, 8: 4.0}  # pixels averaged each way -> weight of the error there
SHARPENING = 1400  # steps of the decoder alone
OFF = 0.04  # standard deviation of what is added to its latents, relative to theirs
_CARRIED = 8  # channels that carry the mean colour from end to end in the untrained model


def train_vae(folder: Path) -> Any:
    """Train the autoencoder; its `scaling_factor` brings latents to a standard deviation of 1.

    The loss is the absolute error at four scales, the coarse ones weighing more: what a caption names, hues above all,
    is in them.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        vae = new_vae()
    start_from_mean_colours(vae)

    def step_loss(rng: random.Random, generator: torch.Generator) -> torch.Tensor:
        images = as_images(training_cards(rng, BATCH))
        latents = vae.encode(images).latent_dist
        noise = torch.randn(latents.mean.shape, generator=generator)
        error = vae.decode(latents.mean + latents.std * noise).sample - images
        loss: torch.Tensor = KL * latents.kl().mean() / latents.mean[0].numel()
        for scale, weight in SCALES.items():
            loss = loss + weight * F.avg_pool2d(error, scale).abs().mean()
        return loss

    average = train("vae", vae, step_loss, steps=STEPS, learning_rate=1e-3, folder=folder, averaging=0.998)
    with torch.no_grad():
        images = as_images(training_cards(random.Random("scale"), 64))
        spread = average.encode(images).latent_dist.mean.std().item()  # type: ignore[operator]
    average.register_to_config(scaling_factor=round(1 / spread, 5))  # type: ignore[operator]
    return average


def sharpen(folder: Path, vae: Any) -> Any:
    """Train the decoder alone some more, for edges: on the plain absolute error, from latents that are a little off.

    The encoder, and with it the latents that the denoiser is trained on, stays as it is, so that both can be trained
    at the same time.
    """
    vae = copy.deepcopy(vae).requires_grad_(False)
    for part in (vae.post_quant_conv, vae.decoder):
        part.requires_grad_(True)
    spread = 1 / vae.config.scaling_factor

    def step_loss(rng: random.Random, generator: torch.Generator) -> torch.Tensor:
        images = as_images(training_cards(rng, BATCH))
        with torch.no_grad():
            latents = vae.encode(images).latent_dist.mean
        noise = OFF * spread * torch.randn(latents.shape, generator=generator)
        decoded: torch.Tensor = vae.decode(latents + noise).sample
        return (decoded - images).abs().mean()

    return train("decoder", vae, step_loss, steps=SHARPENING, learning_rate=8e-4, folder=folder, averaging=0.99, seed=1)


@torch.no_grad()
def start_from_mean_colours(vae: Any, constant: float = 6.0) -> None:
    """Begin with an autoencoder whose latents are the mean colours of 8x8 pixels, and let training add the rest.

    From random weights, this small a model spends 1,500 steps of 6 cards on brightness before it finds hue (18.6 dB);
    from here, 160 steps of 12 quarter cards reach 21.6 dB. Three channels carry the colour, three its negative, so
    that silu(x) - silu(-x) = x passes the last non-linearity, and two a constant that keeps the norms' scale even.
    """
    for half in (vae.encoder, vae.decoder):
        half.conv_in.weight[:_CARRIED] = 0
        half.conv_in.bias[:_CARRIED] = 0
        half.conv_out.weight[:3] = 0
        half.conv_out.bias[:3] = 0
        for k in range(3):
            half.conv_in.weight[k, k, 1, 1] = 1
            half.conv_in.weight[k + 3, k, 1, 1] = -1
            half.conv_out.weight[k, k, 1, 1] = 1.2
            half.conv_out.weight[k, k + 3, 1, 1] = -1.2
        half.conv_in.bias[6], half.conv_in.bias[7] = constant, -constant
        for attention in half.mid_block.attentions:
            attention.to_out[0].weight.zero_()
            attention.to_out[0].bias.zero_()
        for resnet in half.mid_block.resnets:
            _pass_through(resnet)
    for block in [*vae.encoder.down_blocks, *vae.decoder.up_blocks]:
        for resnet in block.resnets:
            _pass_through(resnet)
    for block in vae.encoder.down_blocks:
        for sampler in block.downsamplers or []:
            _carry(sampler.conv, [(0, 0), (0, 1), (1, 0), (1, 1)])
    for block in vae.decoder.up_blocks:
        for sampler in block.upsamplers or []:
            _carry(sampler.conv, [(1, 1)])
    vae.encoder.conv_out.weight[4:] = 0
    vae.encoder.conv_out.bias[4:] = -4  # log variance: a standard deviation of 0.14
    for conv in (vae.quant_conv, vae.post_quant_conv):
        conv.weight[:, :, 0, 0] = torch.eye(conv.weight.shape[0])
        conv.bias.zero_()


def _pass_through(resnet: Any) -> None:
    """Let a residual block begin as the identity, on the carried channels also where the width changes."""
    resnet.conv2.weight.zero_()
    resnet.conv2.bias.zero_()
    if resnet.conv_shortcut is not None:
        _carry(resnet.conv_shortcut, [(0, 0)])


def _carry(conv: Any, taps: list[tuple[int, int]]) -> None:
    """Let a convolution begin as the mean over these taps on the carried channels."""
    conv.weight[:_CARRIED] = 0
    conv.bias[:_CARRIED] = 0
    for k in range(_CARRIED):
        for row, column in taps:
            conv.weight[k, k, row, column] = 1 / len(taps)
