"""What tests of fine-tuning share: a tiny model, pairs of latents for it, pairs of grey pictures."""

from __future__ import annotations

from pathlib import Path

import steering_models as tiny
import torch
from palate.adapters.finetune.loop import train_lora
from palate.adapters.finetune.lora import add_lora
from palate.adapters.finetune.noising import noising_of
from palate.adapters.finetune.pairs import LabelledPair
from palate.adapters.finetune.prepared import Prepared
from palate.adapters.finetune.settings import TrainSettings
from palate.adapters.finetune.step import Denoiser
from palate.adapters.steering.pipelines import load_pipeline
from PIL import Image

CPU = torch.device("cpu")
QUICK = TrainSettings(loss="dpo", steps=6, batch=2, rank=2, learning_rate=1e-3, check_every=3)


def denoiser_of(folder: Path) -> Denoiser:
    """The denoiser of a pipeline folder."""
    pipeline = load_pipeline(folder, torch.float32).pipeline
    return Denoiser(pipeline.unet, noising_of(pipeline.scheduler), CPU, torch.float32)


def prepared(count: int = 6, seed: int = 0, apart: float = 0.0) -> Prepared:
    """Pairs of latents; with `apart`, chosen ones are shifted one way and rejected ones the other."""
    generator = torch.Generator().manual_seed(seed)
    sides = 0.2 * torch.randn(2, count, 4, 8, 8, generator=generator)
    sides[0] += apart
    sides[1] -= apart
    tokens = torch.randn(3, 77, tiny.WIDTH, generator=generator)
    return Prepared(tuple(sides[0]), tuple(sides[1]), tuple(k % 2 for k in range(count)), tokens)


def trained(denoiser: Denoiser, folder: Path, settings: TrainSettings = QUICK, **more: object):
    return train_lora(denoiser, add_lora(denoiser.unet, 2), prepared(), prepared(4, 1), settings, folder, **more)


def grey_pairs(folder: Path, count: int = 8) -> list[LabelledPair]:
    pairs = []
    for k in range(count):
        paths = [folder / f"{k}{side}.png" for side in "ab"]
        for shade, path in zip((60 + 5 * k, 200 - 5 * k), paths, strict=True):
            Image.new("RGB", (16, 16), (shade, shade, shade)).save(path)
        pairs.append(LabelledPair(paths[0], paths[1], "a red star"))
    return pairs
