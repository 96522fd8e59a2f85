"""Pairs from liked pictures alone: what the model makes of the same prompt is the rejected side.

Source: Hong et al. 2024, MaPO, arXiv:2406.06424: any picture x0 with its prompt c becomes a pair with x^w = x0 and
x^l ~ p(. | c).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from PIL import Image

from ..comparisons.images import read_image
from ..errors import CancelledError, FineTuneError, NotEnoughAnswersError
from ..exchange.sources import caption_of, pictures_of
from .pairs import LabelledPair

__all__ = ["Paints", "against_samples", "paints_of", "pictures_and_prompts"]

SAMPLED = "sampled"  # folder of a training


class Paints(Protocol):
    """What samples are taken from: `Generator` is one."""

    name: str

    def images(self, prompt: str, seeds: list[int], /) -> list[Image.Image]:
        """One picture for each seed."""


def paints_of(model: str | os.PathLike[str], device: str) -> Paints:
    """Load what samples of a model are taken from.

    Args:
        model: As `open_model` takes it. device: Where it paints.

    Raises:
        SteeringError: there is no such model.
    """
    import torch

    from ..steering import Generator
    from ..steering.joint import JointPaints, is_joint, load_joint
    from ..steering.joint_files import JointFiles
    from ..steering.joint_single import load_joint_files
    from ..steering.pipelines import pipeline_kind

    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    if isinstance(model, JointFiles):
        return JointPaints(load_joint_files(model, dtype), torch.device(device))
    kind = pipeline_kind(str(model))
    if not is_joint(kind):
        return Generator(str(model), device)
    return JointPaints(load_joint(str(model), kind, dtype), torch.device(device))


def against_samples(
    generator: Paints,
    liked: Path,
    folder: Path,
    prompt: str = "",
    each: int = 1,
    seed: int = 0,
    on_picture: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> list[LabelledPair]:
    """Sample rejected pictures for a folder of liked ones.

    Args:
        generator: With the model that will be trained.
        liked: Folder of pictures; a prompt in a `.txt` file of a picture's name goes before `prompt`.
        folder: Of the training: samples are kept there, and not made again.
        prompt: Of those without one.
        each: Samples for each liked picture.
        seed: Sample j of picture k has seed + k * each + j.
        on_picture: Called with (samples made, all).
        cancelled: Asked before each; what was sampled stays.

    Raises:
        CancelledError: `cancelled` said so.
        FineTuneError: a picture without a prompt, or samples can't be written.
        ImageError: a picture can't be read; before anything is sampled.
        NotEnoughAnswersError: no picture there.
    """
    pictures, prompts = pictures_and_prompts(liked, prompt)
    pairs: list[LabelledPair] = []
    for number, (picture, said) in enumerate(zip(pictures, prompts, strict=True)):
        for turn in range(each):
            if cancelled is not None and cancelled():
                raise CancelledError("Stopped while sampling; what was sampled is kept for the next time.")
            made = _sampled(generator, said, seed + number * each + turn, folder / SAMPLED)
            pairs.append(LabelledPair(picture, made, said, number if each > 1 else None))
            if on_picture is not None:
                on_picture(len(pairs), each * len(pictures))
    return pairs


def pictures_and_prompts(liked: Path, prompt: str = "") -> tuple[list[Path], list[str]]:
    """Return the liked pictures and what each is sampled with; to know of mistakes before a model is loaded.

    Raises:
        FineTuneError, ImageError, NotEnoughAnswersError: see `against_samples`.
    """
    pictures = pictures_of(liked) if liked.is_dir() else []
    if not pictures:
        raise NotEnoughAnswersError(
            f"Cannot train on liked pictures: found none in {liked}; expected a folder of pictures. Put some in."
        )
    prompts = [caption_of(picture.stem, (liked,)) or prompt.strip() for picture in pictures]
    if not all(prompts):
        bare = pictures[prompts.index("")].name
        raise FineTuneError(
            f"Cannot train on liked pictures: {bare} has no prompt; expected one to sample its opposite with. Give "
            f"--prompt, or write it into {Path(bare).stem}.txt beside it."
        )
    for picture in pictures:
        read_image(picture)  # one that is broken would end it after minutes of sampling
    return pictures, prompts


def _sampled(generator: Paints, prompt: str, seed: int, folder: Path) -> Path:
    name = hashlib.sha256(f"{generator.name}/{prompt}/{seed}".encode()).hexdigest()[:24]
    file = folder / f"{name}.png"
    if file.is_file():
        return file
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(f".{os.getpid()}")
        generator.images(prompt, [seed])[0].save(part, "PNG")
        part.replace(file)
    except OSError as error:
        raise FineTuneError(f"Cannot keep samples in {folder}: {error}. Make room, or choose another name.") from error
    return file
