"""One fine-tuning after another of the same model, and what its pictures are like: the workshop of the studies.

The base's pictures, postcards and texts are made once; a LoRA that was trained before comes from the cache.

Shapes: K prompts.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..finetune.frozen import hold_in_bytes
from ..finetune.loop import train_lora
from ..finetune.lora import add_lora, load_lora
from ..finetune.noising import noising_of
from ..finetune.prepared import Prepared
from ..finetune.settings import TrainSettings
from ..finetune.step import Denoiser, draw_noise
from ..finetune.told import Trained
from ..steering import Generator
from ._painter import Job, Painter, Seen, seen_in
from ._styles import STYLES

__all__ = ["Tuned", "Workshop"]

_FAR = 1000  # between the seeds of one prompt
_TOGETHER = 16  # pairs of a forward pass, or pictures


@dataclass(frozen=True, eq=False)
class Tuned:
    """What came of one training.

    Attributes:
        state: The LoRA, as `lora_of` gives it; {} is the base.
        steps: Done. seconds: Spent on them, looks at held-out pairs included.
        better: What `Trained` says of it. accuracy: On held-out pairs at its best look, NaN without any.
        watched: What the training was watched for, by name.
        key: Says which training it is; the same for the same.
    """

    state: dict[str, Tensor]
    steps: int = 0
    seconds: float = 0.0
    better: bool | None = None
    accuracy: float = float("nan")
    watched: dict[str, Tensor] | None = None
    key: str = ""


class Workshop:
    """A generator whose denoiser is trained, put back and trained again.

    Attributes:
        generator: The model. prompts: K that are painted; the seed of each is `first_seed` plus its place.
    """

    def __init__(
        self,
        generator: Generator,
        prompts: Sequence[str],
        first_seed: int = 0,
        steps: int | None = None,
        cache: Path | None = None,
        bfloat16: bool = True,
    ) -> None:
        """Take a generator.

        Args:
            steps: Of sampling; None is the model's own.
            cache: Folder of trainings done before, or None.
            bfloat16: Forward passes in that precision, faster where the processor has it.
        """
        if steps is not None:
            generator.defaults = replace(generator.defaults, steps=steps)
        self.generator, self.prompts, self.first_seed, self._cache = generator, list(prompts), first_seed, cache
        self._precision = torch.bfloat16 if bfloat16 else torch.float32
        self._unet: Any = generator._pipeline.unet
        self._painted: dict[tuple[int, int | None, str], Seen] = {}

    def train(
        self,
        data: Prepared,
        settings: TrainSettings,
        name: str,
        held_out: Prepared | None = None,
        watch: Callable[[], dict[str, Tensor]] | None = None,
        **more: Any,
    ) -> Tuned:
        """Train a LoRA from nothing, or take it from the cache.

        Args:
            data, settings, held_out, more: As `train_lora` takes them.
            name: Says which pairs these are, and whatever else makes a difference beside the settings.
            watch: Gives what is kept of the training beside the LoRA; called at its end.
        """
        settings = settings.suited(self._unet.config)
        told = asdict(settings)
        told.pop("drop_doubted")  # which pairs are left is in the name
        name += f"/{frozen}" if (frozen := told.pop("frozen")) else ""
        key = f"{name}/{self.generator.name}/{self._precision}/{sorted(told.items())}/{len(data)}"
        file = self._file("tuned", key)
        if file is not None and file.is_file():
            return Tuned(**torch.load(file, map_location="cpu", weights_only=True))
        self._clear()
        # Forward passes of this small model are fastest as they come.
        self._unet.to(memory_format=torch.contiguous_format)
        unet = copy.deepcopy(self._unet) if frozen else self._unet  # it paints with its own weights
        if frozen:
            hold_in_bytes(unet)
        parameters = add_lora(unet, settings.settled(len(data)).rank or 4, settings.seed)
        denoiser = self._denoiser(unet)
        started = time.perf_counter()
        # The fused attention's backward pass takes half of a step on processors; the plain one doesn't.
        plain = sdpa_kernel(SDPBackend.MATH) if self.generator.device.type == "cpu" else contextlib.nullcontext()
        with tempfile.TemporaryDirectory() as folder, plain:
            found = train_lora(denoiser, parameters, data, held_out, settings, Path(folder), **more)
        tuned = _tuned(found, time.perf_counter() - started, {} if watch is None else watch(), key)
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.save(vars(tuned), file)
        return tuned

    def errors(self, data: Prepared, seed: int = 0) -> tuple[float, float]:
        """Mean denoising error of the base on the chosen and on the rejected pictures."""
        self._clear()
        denoiser, generator, found = self._denoiser(self._unet), torch.Generator().manual_seed(seed), []
        with torch.no_grad():
            for start in range(0, len(data), _TOGETHER):
                batch = data.batch(range(start, min(start + _TOGETHER, len(data))), denoiser.device)
                noise, timesteps = draw_noise(batch, denoiser.noising.timesteps, generator, False)
                found.append(denoiser.errors(batch, noise, timesteps, False))
        chosen, rejected = (torch.cat([getattr(one, side) for one in found]) for side in ("chosen", "rejected"))
        return float(chosen.mean()), float(rejected.mean())

    def sampled(self, prompts: Sequence[str], seed: int) -> list[Image.Image]:
        """The base's pictures of prompts; the seed of each is this plus its place."""
        self._clear()
        painter, text = Painter(self.generator, self._precision == torch.bfloat16), self.generator.conditioner
        found: list[Image.Image] = []
        for start in range(0, len(prompts), _TOGETHER):
            part = prompts[start : start + _TOGETHER]
            found += painter._paint([Job(text.plain(one), seed + start + place) for place, one in enumerate(part)])
        return found

    def look(self, tuned: Tuned | None, seeds: int = 1, prompts: int | None = None, style: str = "") -> Seen:
        """Paint, encode and measure the first prompts: all of the first seed, then of the second, and so on.

        Args:
            tuned: None is the base.
            seeds: Of each prompt.
            prompts: How many of them; None is all.
            style: A name in `STYLES`, as which the pictures are read; "" as what people may care for.
        """
        asked = self.prompts[:prompts]
        which = (
            self.generator.name,
            self.generator.defaults.steps,
            str(self._precision),
            self.first_seed,
            seeds,
            asked,
        )
        file = self._file("seen", f"{which}/{'' if tuned is None else tuned.key}" + (f"/{style}" if style else ""))
        if file is not None and file.is_file():
            found = torch.load(file, map_location="cpu", weights_only=True)
            return Seen(found["features"].numpy(), tuple(found["named"]), found["vectors"].numpy())
        self._put(tuned)
        read = STYLES[style].read if style else seen_in
        painter = Painter(self.generator, self._precision == torch.bfloat16, read)
        self._unet.to(memory_format=torch.contiguous_format)
        text = self.generator.conditioner
        jobs = [
            Job(text.plain(prompt), self.first_seed + place + _FAR * seed)
            for seed in range(seeds)
            for place, prompt in enumerate(asked)
        ]
        seen = painter.look(jobs)
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            tensors = {name: torch.from_numpy(getattr(seen, name)) for name in ("features", "vectors")}
            torch.save({"named": list(seen.named), **tensors}, file)
        return seen

    def base(self, seeds: int = 1, prompts: int | None = None, style: str = "") -> Seen:
        """The same of the base; painted once."""
        asked = seeds, prompts, style
        if asked not in self._painted:
            self._painted[asked] = self.look(None, *asked)
        return self._painted[asked]

    def _denoiser(self, unet: Any) -> Denoiser:
        noising = noising_of(self.generator._pipeline.scheduler)
        return Denoiser(unet, noising, self.generator.device, self._precision)

    def _put(self, tuned: Tuned | None) -> None:
        self._clear()
        if tuned is not None and tuned.state:
            rank = next(len(value) for name, value in tuned.state.items() if name.endswith(".down"))
            add_lora(self._unet, rank)
            load_lora(self._unet, tuned.state)

    def _clear(self) -> None:
        if getattr(self._unet, "peft_config", None):
            self._unet.delete_adapters(list(self._unet.peft_config))

    def _file(self, kind: str, key: str) -> Path | None:
        if self._cache is None:
            return None
        return self._cache / f"{kind}-{hashlib.sha256(key.encode()).hexdigest()[:20]}.pt"


def _tuned(found: Trained, seconds: float, watched: dict[str, Tensor], key: str) -> Tuned:
    accuracy = float("nan") if found.best is None else found.best.accuracy
    return Tuned(found.state, found.steps, seconds, found.better, accuracy, watched, key)
