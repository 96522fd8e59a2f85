"""From one person's answers to a LoRA file: everything that `palate train lora` does."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..encoders import ImageTextEncoder
from ..files.lora_file import save_lora
from ..steering import TextConditioner
from ..steering.pipelines import load_pipeline, prompt_towers
from .gradients import KnownOfPairs
from .loop import train_lora
from .lora import add_lora
from .losses import pair_embedding
from .noising import noising_of
from .pairs import LabelledPair, split_pairs
from .prepared import prepare
from .settings import TrainSettings
from .step import Denoiser
from .told import Trained, TrainingStep

__all__ = ["PersonalLora", "train_personal_lora"]


@dataclass(frozen=True, eq=False)
class PersonalLora:
    """A LoRA on disk, and how it was found to be.

    Attributes:
        file: Of the LoRA.
        trained: How the training went.
        pairs: How many it was trained on. held_out: How many it was judged by.
    """

    file: Path
    trained: Trained
    pairs: int
    held_out: int


def train_personal_lora(
    model: str | Path,
    pairs: Sequence[LabelledPair],
    settings: TrainSettings,
    folder: Path,
    file: Path,
    person: str = "",
    encoder: ImageTextEncoder | None = None,
    device: str | torch.device = "cpu",
    on_prepared: Callable[[int, int], None] | None = None,
    on_step: Callable[[TrainingStep], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> PersonalLora:
    """Train a LoRA on pairs and save it.

    Args:
        model: As `Generator` takes it: "playground", a diffusers folder, a single file of SD1.5 or SDXL.
        pairs: All of them; some are held out to judge by.
        settings: What is None is chosen.
        folder: Of the checkpoint. A stopped training of the same model, settings and pairs goes on there; one that came
            to its end makes room for another.
        file: To save to.
        person: For the file's metadata; "" leaves it out.
        encoder: With both towers, for `rpo`'s distances.
        device: Where to train; on "cuda" in bfloat16.
        on_prepared: Called with (pictures encoded, all).
        on_step, cancelled: See `train_lora`.

    Raises:
        CancelledError, FineTuneError, ImageError, SteeringError, StoreError: see `prepare`, `train_lora`, `save_lora`.
    """
    device = torch.device(device)
    precision = torch.bfloat16 if device.type == "cuda" else torch.float32
    kept, held = split_pairs(pairs)
    loaded = load_pipeline(model, precision)
    pipeline = loaded.pipeline
    text = TextConditioner(prompt_towers(pipeline))
    # The autoencoder in full precision: SDXL's overflows in half, and it is at work only once.
    pipeline.vae.to(device, torch.float32)
    size = settings.size or loaded.defaults.size
    step = 64 if size >= 256 else 8
    data = prepare(kept, pipeline.vae, text, size, step, on_prepared, cancelled)
    judged = prepare(held, pipeline.vae, text, size, step, None, cancelled) if held else None
    pipeline.vae.to("cpu")
    unet = pipeline.unet.to(device)
    parameters = add_lora(unet, settings.settled(len(kept)).rank or 4, settings.seed)
    if device.type == "cuda":
        unet.enable_gradient_checkpointing()
    denoiser = Denoiser(unet, noising_of(pipeline.scheduler), device, precision)
    known = KnownOfPairs(_embeddings(kept, encoder) if encoder is not None and settings.loss == "rpo" else None)
    about = _identity(model, kept, held)
    trained = train_lora(denoiser, parameters, data, judged, settings, folder, known, on_step, cancelled, about)
    saved = save_lora(trained.state, file, loaded.family, _about(trained, person, len(pairs), loaded.name))
    return PersonalLora(saved, trained, len(kept), len(held))


def _identity(model: str | Path, *parts: Sequence[LabelledPair]) -> str:
    """What a stopped training is known again by: the model, and the pictures and prompts in their order."""
    named = [[(pair.chosen.name, pair.rejected.name, pair.prompt) for pair in pairs] for pairs in parts]
    return hashlib.sha256(json.dumps([str(model), named]).encode()).hexdigest()


def _embeddings(pairs: Sequence[LabelledPair], encoder: ImageTextEncoder) -> tuple[Tensor, Tensor]:
    """(N, 2 D) of the chosen and of the rejected pictures, each with its prompt; (N, D) without a text side."""
    from PIL import Image

    sides = []
    for side in ("chosen", "rejected"):
        pictures = []
        for pair in pairs:
            with Image.open(getattr(pair, side)) as opened:
                pictures.append(opened.convert("RGB"))
        sides.append(torch.cat([encoder.encode_images(pictures[k : k + 16]) for k in range(0, len(pictures), 16)]))
    if not encoder.has_text:
        return sides[0], sides[1]
    prompts = encoder.encode_texts([pair.prompt for pair in pairs])
    return pair_embedding(sides[0], prompts), pair_embedding(sides[1], prompts)


def _about(trained: Trained, person: str, answers: int, model: str) -> dict[str, str]:
    settings: dict[str, Any] = vars(trained.settings)
    found = {f"palate.{name}": str(value) for name, value in settings.items() if value is not None}
    if trained.best is not None:
        found["palate.held_out_accuracy"] = f"{trained.best.accuracy:.4f}"
        found["palate.held_out_log_loss"] = f"{trained.best.log_loss:.4f}"
    found |= {"palate.pairs": str(answers), "palate.model": model, "palate.person": person}
    found["modelspec.date"] = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    found["modelspec.description"] = trained.summary
    return found
