"""First part of the PPD's training with the denoiser: what the optimum of preference training would predict.

Preference training has an optimum in closed form, p*(x | c, u) = p(x | c) exp(r(x, u) / beta) / Z, which nobody can
evaluate for pictures. For drawn postcards one can nearly: the properties that a caption leaves open are independent of
each other, so what the optimum's denoiser says beyond the base's is a sum over properties, each over the few cards that
differ in that property alone:

    E*[x0 | xt] - E[x0 | xt] = sum over properties of sum_j (w*_j - w_j) x_j,
    w_j = N(xt; a x_j, s^2) / Z,   w*_j = N(xt; a x_j, s^2) exp(r(x_j, u) / beta) / Z*

The user attention is trained on this difference by squared error: no sampled preference, no noise of one picture's
target. r is what the encoder's reader expects of the user, known from some answers only: so few answers move a picture
little. The encoder goes on learning to read answers meanwhile.
Source: Rafailov et al. 2023, DPO, arXiv:2305.18290, equation 4. Differs: it is regressed on, not reached by pairs.

Shapes: n cards, U users of each, V cards that differ in one property, C channels, h and w of latents.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ...finetune.noising import Noising
from ...ppd.attention import UserAttention
from ...ppd.diffusers import Branch, user_branch
from ...ppd.model import PPD
from ..world import NAMED, UNNAMED
from .loop import train
from .ppd_changes import Changes
from .ppd_encoder import Questions, Reader

__all__ = ["moved", "start_from_text", "teach"]

CARDS, USERS, ASKED = 16, 2, 64  # of a step; and people who are asked so that the encoder goes on reading
KNOWN = (2, 4, 4, 8, 8, 16, 16, 32, 64)  # pairs that a person is known by, in turn
RATE = 1.5e-3
SHARPNESS = 8.0  # 1 / beta
NOISY = 450  # the least timestep: below, a picture's properties are settled
BLENDED = 0.25  # share of the steps whose users are blends of two
EVEN = 1170  # steps in which all noise counts alike; then each as much as it changes what is sampled
_FELT = 15.0  # 1 / share of the picture's variance that is left in the middle of the noise levels that matter
_POWER = 100.0  # what is regressed on is small beside the reader's loss


class _Taught(nn.Module):
    """All that is trained."""

    def __init__(self, attention: UserAttention, reader: Reader) -> None:
        super().__init__()
        self.attention, self.reader = attention, reader


def start_from_text(attention: UserAttention, unet: Any) -> None:
    """Give the user's keys those of the text: what they already tell apart is where a property is to be said."""
    with torch.no_grad():
        for layer, key in zip(attention.layers, attention.keys, strict=True):
            key.weight.copy_(unet.get_submodule(layer.name).to_k.weight)  # type: ignore[operator]


def teach(
    ppd: PPD,
    reader: Reader,
    unet: Any,
    noising: Noising,
    changes: Changes,
    questions: Questions,
    folder: Path,
    steps: int,
) -> PPD:
    """Train; a checkpoint in the folder is gone on from.

    Args:
        ppd: Its attention is trained and its encoder, which is the reader's; a copy of it is given back.
        reader: What answers say of a taste.
        unet: The denoiser, frozen.
        noising: What it predicts: velocity.
        changes: What pictures could be.
        questions: That users are known by.
        folder: For the checkpoint, `ppd-taught.pt`.
        steps: Of the optimiser.
    """
    unet.requires_grad_(False)
    model = _Taught(ppd.attention, reader).requires_grad_(True)
    with user_branch(unet, ppd) as branch:
        lesson = _Lesson(unet, branch, reader, noising, changes, questions)
        taught = train(
            "ppd-taught", model, lesson.loss, steps=steps, learning_rate=RATE, folder=folder, averaging=0.995
        )
    assert isinstance(taught, _Taught)
    about = ppd.base, ppd.name, ppd.image_encoder, ppd.image_encoder_name, ppd.created
    return PPD(taught.attention.requires_grad_(True), taught.reader.encoder, *about)


@dataclass(frozen=True, eq=False)
class _Lesson:
    """What `teach` was given, and the branch that says to the denoiser who it is for."""

    unet: Any
    branch: Branch
    reader: Reader
    noising: Noising
    changes: Changes
    questions: Questions

    def loss(self, rng: random.Random, generator: torch.Generator) -> Tensor:
        """Of one step: the error of what users move, and how badly the encoder reads others."""
        questions, changes, noising = self.questions, self.changes, self.noising
        who = questions.some(CARDS * USERS, generator)
        tokens = questions.read(self.reader.encoder, who, rng.choice(KNOWN), generator)
        if rng.random() < BLENDED:
            share = torch.rand(len(tokens), 1, 1, generator=generator)
            tokens = share * tokens + (1 - share) * tokens.roll(1, 0)
        rows = torch.randint(len(changes.captions), (CARDS,), generator=generator)
        parts = (torch.arange(CARDS) + torch.rand(CARDS, generator=generator)) / CARDS
        timesteps = (NOISY + (noising.timesteps - NOISY) * parts).long()
        clean = changes.latents[rows, 0].float()
        noisy = noising.noised(clean, torch.randn(clean.shape, generator=generator), timesteps)
        with torch.no_grad():
            likes = self.reader(tokens, _each(changes.measured[rows]))
            wanted = moved(changes, rows, noisy, noising.kept[timesteps], SHARPNESS * likes.unflatten(0, (CARDS, -1)))
        found = self._moved(noisy, timesteps, changes.tokens[rows], tokens)
        error = (found - wanted.flatten(0, 1)).square().mean((1, 2, 3))
        if generator.initial_seed() >= EVEN:  # the loop seeds with the step's number
            error = error * _each(_FELT * noising.kept[timesteps])
        others = questions.some(ASKED, generator)
        read = questions.read(self.reader.encoder, others, rng.choice(KNOWN), generator)
        loss: Tensor = _POWER * error.mean() + questions.loss(self.reader, read, others, generator)
        return loss

    def _moved(self, noisy: Tensor, timesteps: Tensor, text: Tensor, tokens: Tensor) -> Tensor:
        """(n U, C, h, w) how far users move what the denoiser predicts."""
        # The mathematical form of attention: twice as fast backwards as torch's own on processors.
        with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            self.branch.tokens = None
            with torch.no_grad():
                base = self.unet(noisy, timesteps, text).sample
            self.branch.tokens = tokens
            found: Tensor = self.unet(_each(noisy), _each(timesteps), _each(text)).sample
        return found.float() - _each(base).float()


def _each(rows: Tensor) -> Tensor:
    """(n, ...) to (n U, ...)."""
    return rows.repeat_interleave(USERS, 0)


def moved(changes: Changes, rows: Tensor, noisy: Tensor, kept: Tensor, likes: Tensor) -> Tensor:
    """How far users move what a perfect denoiser predicts, as velocity (n, U, C, h, w).

    Args:
        changes: What pictures could be.
        rows: (n,) which cards.
        noisy: (n, C, h, w) these with noise.
        kept: (n,) share of the picture's variance that is left in them.
        likes: (n, U, V) r / beta.
    """
    cards, places = changes.latents[rows].float().flatten(2), changes.changed[rows]
    image, noise = kept.sqrt()[:, None, None], (1.0 - kept)[:, None]
    logs = -((noisy.flatten(1)[:, None] - image * cards) ** 2).sum(-1) / (2 * noise)  # (n, V)
    steps = cards - cards[:, :1]
    total = torch.zeros(*likes.shape[:2], cards.shape[-1])
    for place in range(len(NAMED) + len(UNNAMED)):
        could = places == place
        could[:, 0] = True
        here = logs.masked_fill(~could, -torch.inf)
        gained = (here[:, None] + likes).softmax(-1) - here.softmax(-1)[:, None]
        total += torch.einsum("nuv,nvd->nud", gained, steps)
    # v = (a x_t - x0) / s, so what moves x0 by d moves v by -d / s.
    return (-total / noise.sqrt()[..., None]).view(*likes.shape[:2], *noisy.shape[1:])
