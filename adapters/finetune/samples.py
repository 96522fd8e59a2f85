"""Pictures of the same prompts and seeds before a training and after it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image

from ..errors import FineTuneError
from ..steering import TextConditioner
from ..steering.conditioning import Conditioning
from ..steering.pipelines import Defaults
from ..steering.sampling import Look, Progress, sample
from .pairs import LabelledPair

__all__ = ["Painter", "Painting", "Samples", "Sheets", "prompts_of", "write_sheet"]

FOLDER = "samples"
_TEXT = ("text_encoder", "text_encoder_2")


def prompts_of(held_out: Sequence[LabelledPair], others: Sequence[LabelledPair], count: int) -> list[str]:
    """As many different prompts, those that are not trained on first."""
    return list(dict.fromkeys(pair.prompt for pair in (*held_out, *others)))[:count]


def write_sheet(
    folder: Path, count: int, step: int, painted: Callable[[Sequence[int]], Sequence[Any]], again: bool = True
) -> tuple[Path, ...]:
    """Write one picture of each prompt as PNG.

    Args:
        folder: Of the training; pictures go into its folder `samples`.
        count: Of the prompts.
        step: After how many steps; 0 is before.
        painted: Paints those of these numbers.
        again: Whether pictures that are there already are painted again.

    Raises:
        FineTuneError: they can't be written.
    """
    folder = folder / FOLDER
    files = tuple(folder / f"{number + 1} after {step} steps.png" for number in range(count))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        missing = [k for k, file in enumerate(files) if again or not file.is_file()]
        for number, picture in zip(missing, painted(missing), strict=True):
            picture.save(files[number])
    except OSError as error:
        raise FineTuneError(f"Cannot keep samples in {folder}: {error}. Make room, or ask for none.") from error
    return files


class Painter(Protocol):
    """Paints one picture of each of some prompts."""

    def paint(self, step: int, on_sample: Callable[[int, tuple[Path, ...]], None] | None, again: bool = True) -> None:
        """Paint after so many steps, and tell of the files; `again`: those that are there already, too."""


@dataclass(frozen=True, eq=False)
class Painting:
    """What is to be painted.

    Attributes:
        prompts: Texts. said: Each as the denoiser takes it. nothing: The empty prompt likewise.
        size: Side in pixels. seed: The picture of prompt k has seed + k.
        folder: Pictures go into its folder `samples`.
        precision: Of forward passes.
    """

    prompts: Sequence[str]
    said: Sequence[Conditioning]
    nothing: Conditioning
    size: int
    seed: int
    folder: Path
    precision: torch.dtype


class Sheets:
    """Pictures of a family whose pipeline is told of prompts by what was read of them."""

    def __init__(self, painting: Painting, draw: Callable[[Conditioning, Conditioning, int], Image.Image]) -> None:
        """Take what is to be painted, and what paints one picture of (prompt, empty prompt, seed)."""
        self._painting, self._draw = painting, draw

    def paint(self, step: int, on_sample: Callable[[int, tuple[Path, ...]], None] | None, again: bool = True) -> None:
        asked = self._painting

        def painted(numbers: Sequence[int]) -> list[Image.Image]:
            return [self._draw(asked.said[number], asked.nothing, asked.seed + number) for number in numbers]

        files = write_sheet(asked.folder, len(asked.said), step, painted, again)
        if on_sample is not None:
            on_sample(step, files)


class Samples:
    """Paints what the model paints now.

    Args:
        pipeline: diffusers', with the model under training as its denoiser.
        text: Its text side.
        defaults: How it is sampled. size: Pixels.
        prompts: One picture of each.
        seed: The picture of prompt k has seed + k.
        folder: Of the training; pictures go into its folder `samples`.
        precision: Of forward passes.
    """

    def __init__(
        self,
        pipeline: Any,
        text: TextConditioner,
        defaults: Defaults,
        prompts: Sequence[str],
        seed: int,
        folder: Path,
        precision: torch.dtype,
    ) -> None:
        self._pipeline, self._text, self._prompts, self._seed = pipeline, text, list(prompts), seed
        self._folder, self._precision = folder, precision
        self._look = Look(defaults.steps, defaults.guidance, defaults.size, defaults.size)

    def paint(self, step: int, on_sample: Callable[[int, tuple[Path, ...]], None] | None, again: bool = True) -> None:
        """Paint one picture of each prompt and tell of the files.

        Args:
            step: After how many steps; 0 is before.
            on_sample: Called with the step and the PNG files.
            again: Whether pictures that are there already are painted again.

        Raises:
            FineTuneError: they can't be written.
        """
        files = write_sheet(self._folder, len(self._prompts), step, self._painted, again)
        if on_sample is not None:
            on_sample(step, files)

    def _painted(self, numbers: Sequence[int]) -> list[Any]:
        """One at a time, so that a picture doesn't hang on its neighbours."""
        pipeline, unet, vae, found = self._pipeline, self._pipeline.unet, self._pipeline.vae, []
        home, kind = vae.device, vae.dtype
        vae.to(unet.device)
        # diffusers computes where it finds any of its parts, and the text encoders may be elsewhere.
        towers = {name: getattr(pipeline, name) for name in _TEXT if getattr(pipeline, name, None) is not None}
        for name in towers:
            setattr(pipeline, name, None)
        training = unet.training
        unet.eval()
        quiet = Progress(0, 1, None, None)
        try:
            with torch.autocast(unet.device.type, self._precision, enabled=self._precision != torch.float32):
                for number in numbers:
                    chunks = self._text.chunks(self._prompts[number])
                    wanted, negative = self._text.plain(self._prompts[number]), self._text.negative("", chunks)
                    wanted, negative = (_moved(one, unet.device, unet.dtype) for one in (wanted, negative))
                    found.append(sample(pipeline, wanted, negative, self._seed + number, self._look, quiet))
        finally:
            unet.train(training)
            vae.to(home, kind)
            for name, tower in towers.items():
                setattr(pipeline, name, tower)
        return found


def _moved(conditioning: Any, device: torch.device, dtype: torch.dtype) -> Any:
    pooled = None if conditioning.pooled is None else conditioning.pooled.to(device, dtype)
    return replace(conditioning, tokens=conditioning.tokens.to(device, dtype), pooled=pooled)
