"""Training the playground's PPD: its user encoder on answers alone, then both with the denoiser, then DPO.

The encoder learns what answers say of a taste (`ppd_encoder`), the attention what a taste says of a picture
(`ppd_taught`), and direct preference optimisation over all people's pairs goes on from there.

People, captions and cards of the studies are never among these: people are invented from another seed, and cards whose
subject, colour and background are held out are never drawn.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from ...finetune.noising import Noising, noising_of
from ...finetune.several import several
from ...finetune.told import TrainingStep
from ...ppd.attention import UserAttention
from ...ppd.layers import layers_of, width_of
from ...ppd.model import PPD
from ...ppd.settings import PPDSettings
from ...ppd.training import train_ppd
from .ppd_cards import Cards, answers_of, draw_cards, people_of
from .ppd_changes import Changes, draw_changes
from .ppd_encoder import Questions, new_encoder, train_encoder
from .ppd_taught import start_from_text, teach

if TYPE_CHECKING:
    from ...steering import Generator

__all__ = ["CAPTIONS", "SETTINGS", "train_playground_ppd", "write_everybody", "write_ppd"]

SEED = 20_261
PEOPLE = 4000
CARES = (1, 5, 2, 5, 1, 5, 3, 5)  # for how many properties people care, in turn
CAPTIONS, SHARDS = 400, 3
CHANGED, CHANGED_SHARDS = 250, 4
ENCODER_STEPS, TAUGHT_STEPS, EVERYBODY_STEPS = 3000, 2600, 300
STRENGTH = 1.0  # of what is written, beside what was trained
# From nothing, attention is trained fast, and with guidance all of it moves pictures further than prompts allow.
EVERYBODY_RATE, EVERYBODY_STRENGTH = 3e-3, 0.45
ASKED, KNOWN = 24, 96  # pairs a person: to train on, and to know the person by
SETTINGS = PPDSettings(
    loss="dpo",
    beta=30.0,
    learning_rate=5e-4,
    weight_decay=0.0,
    schedule="cosine",
    warm_up=0.02,
    steps=300,
    batch=16,
    fewest=4,
    most=64,
    user_dropout=0.05,
    caption_dropout=0.05,
    precision="bfloat16",
    seed=0,
)


def train_playground_ppd(
    folder: Path,
    settings: PPDSettings = SETTINGS,
    people: int = PEOPLE,
    captions: int = CAPTIONS,
    shards: int = SHARDS,
    name: str = "ppd",
    taught: bool = True,
    strength: float = STRENGTH,
) -> PPD:
    """Train; whatever lies in the folder already is gone on from.

    Args:
        folder: For cards, the encoder and checkpoints.
        settings: Of the training with the denoiser.
        people: Trained on, >= 8. captions: Of a shard of cards. shards: Of cards to train on.
        name: Of the checkpoints' folder in `folder`.
        taught: Whether the attention is taught before DPO; without, it starts from nothing.
        strength: Of what is given back, beside what was trained.
    """
    from ...steering import Generator

    generator = Generator("playground")
    mixed = draw_cards(generator, captions, "any", folder=folder)
    alike = Cards.joined([draw_cards(generator, captions, "alike", shard, folder) for shard in range(shards)])
    invented = people_of(people, SEED, mixed, CARES)
    unet, noising = generator._pipeline.unet, noising_of(generator._pipeline.scheduler)
    ppd = _begun(generator, noising, Questions(invented, mixed), folder, taught)
    assert ppd.encoder is not None
    ppd.encoder.requires_grad_(False)
    data = answers_of(invented, alike, mixed, ASKED, KNOWN, SEED)
    together = several()
    settings = replace(settings, batch=max(1, settings.batch // together.count))
    with sdpa_kernel(SDPBackend.MATH):  # backwards twice as fast on processors as torch's own
        ppd = train_ppd(ppd, unet, noising, data, None, settings, folder / name, _tell, several=together).ppd
    with torch.no_grad():
        for value in ppd.attention.values:
            value.weight.mul_(strength)  # type: ignore[operator]
    return ppd


def _begun(generator: Generator, noising: Noising, questions: Questions, folder: Path, taught: bool) -> PPD:
    """What DPO goes on from: an encoder that reads answers, and attention that was taught or is nothing yet."""
    unet, image_encoder = generator._pipeline.unet, generator.encoder
    assert image_encoder is not None
    reader = train_encoder(new_encoder(width_of(unet), image_encoder.dim), questions, folder, ENCODER_STEPS)
    attention = UserAttention(layers_of(unet), width_of(unet))
    about = {"image_encoder": image_encoder.identity, "image_encoder_name": image_encoder.name}
    ppd = PPD(attention, reader.encoder, "playground", name="playground", **about)
    if not taught:
        return ppd
    parts = [draw_changes(generator, CHANGED, shard, folder) for shard in range(CHANGED_SHARDS)]
    start_from_text(attention, unet)
    return teach(ppd, reader, unet, noising, Changes.joined(parts), questions, folder, TAUGHT_STEPS)


def write_ppd(folder: Path, models: Path) -> Path:
    """Train as the playground's own is trained, and write `ppd.safetensors` beside the other models."""
    from ...files.ppd_file import save_ppd

    return save_ppd(train_playground_ppd(folder), models / "ppd.safetensors")


def write_everybody(folder: Path, loss: str) -> Path:
    """Train the same attention for everybody at once, which is what `ppd-unseen` compares with.

    Everybody is the average user, known from no answer: one user's tokens, the same for all.

    Args:
        folder: As in `train_playground_ppd`; `ppd-<loss>.safetensors` is written there, too.
        loss: "dpo" is Diffusion-DPO on everybody's pairs, "sft" plain training on everybody's chosen pictures.
    """
    from ...files.ppd_file import save_ppd

    settings = replace(SETTINGS, loss=loss, user_dropout=1.0, steps=EVERYBODY_STEPS, learning_rate=EVERYBODY_RATE)
    ppd = train_playground_ppd(folder, settings, name=f"ppd-{loss}", taught=False, strength=EVERYBODY_STRENGTH)
    return save_ppd(ppd, folder / f"ppd-{loss}.safetensors")


def _tell(step: TrainingStep) -> None:
    if step.step % 50 == 0:
        left = f"{step.seconds_left:.0f} s left"
        print(f"ppd {step.step}/{step.steps} loss {step.loss:.4f} accuracy {step.accuracy:.3f} {left}", flush=True)
