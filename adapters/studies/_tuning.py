"""One fine-tuning after another of the same model, and what its pictures are like: the workshop of the studies.

The base's pictures, postcards and texts are made once; a LoRA that was trained before comes from the cache.

Shapes: K prompts, N answers, F features that people may care for.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..finetune.loop import train_lora
from ..finetune.lora import add_lora, load_lora
from ..finetune.noising import noising_of
from ..finetune.prepared import Prepared
from ..finetune.settings import TrainSettings
from ..finetune.step import Denoiser
from ..finetune.told import Trained
from ..playground.captions import named_in
from ..playground.people import FEATURES, Person
from ..steering import Generator
from ._painter import Job, Painter, Seen
from ._postcards import Answers, Postcards, answered, calibrated_on
from ._tables import Array
from ._votes import Outcome, prompt_kept, wins

__all__ = ["Gain", "Tuned", "Workshop", "gain_of", "judged", "planted_utility"]

_FAR = 1000  # between the seeds of one prompt
_CARED = ("sticker", "frame", "shading", "brightness", "colourfulness")  # what no caption names
_DIVERSE = 3  # seeds that diversity is looked at over


@dataclass(frozen=True)
class Gain:
    """What a training did to the pictures, judged by a person's true utility.

    Attributes:
        gain: Mean over prompts, in standard deviations of that utility over the base's pictures.
        wins: Share of prompts whose picture is preferred to the base's of the same seed; an even one counts half.
        kept: Share of prompts kept, over the base's.
        diversity: Mean distance of measured features between seeds of one prompt, over the base's; NaN: not looked at.
    """

    gain: float
    wins: float
    kept: float
    diversity: float = float("nan")


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
        self._painted: dict[int, Seen] = {}

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
        key = f"{name}/{self.generator.name}/{self._precision}/{sorted(asdict(settings).items())}/{len(data)}"
        file = self._file("tuned", key)
        if file is not None and file.is_file():
            return Tuned(**torch.load(file, map_location="cpu", weights_only=True))
        self._clear()
        # Forward passes of this small model are fastest as they come.
        self._unet.to(memory_format=torch.contiguous_format)
        parameters = add_lora(self._unet, settings.settled(len(data)).rank or 4, settings.seed)
        denoiser = Denoiser(
            self._unet, noising_of(self.generator._pipeline.scheduler), self.generator.device, self._precision
        )
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

    def look(self, tuned: Tuned | None, seeds: int = 1, prompts: int | None = None) -> Seen:
        """Paint, encode and measure the first prompts: all of the first seed, then of the second, and so on.

        Args:
            tuned: None is the base.
            seeds: Of each prompt.
            prompts: How many of them; None is all.
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
        file = self._file("seen", f"{which}/{'' if tuned is None else tuned.key}")
        if file is not None and file.is_file():
            found = torch.load(file, map_location="cpu", weights_only=True)
            return Seen(found["features"].numpy(), tuple(found["named"]), found["vectors"].numpy())
        self._put(tuned)
        painter = Painter(self.generator, self._precision == torch.bfloat16)
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

    def base(self, seeds: int = 1, prompts: int | None = None) -> Seen:
        """The same of the base; painted once."""
        asked = seeds * 10_000 + (len(self.prompts) if prompts is None else prompts)
        if asked not in self._painted:
            self._painted[asked] = self.look(None, seeds, prompts)
        return self._painted[asked]

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


def judged(seen: Seen, prompts: Sequence[str], rate: Callable[[Seen], Array]) -> Outcome:
    """What a judge says of pictures of prompts; utility and kept are (1, K) each."""
    kept = [named_in(prompt).items() <= found.items() for prompt, found in zip(prompts, seen.named, strict=True)]
    return Outcome(np.asarray(rate(seen))[None], np.array(kept, dtype=np.float64)[None])


def planted_utility(cards: Postcards, pairs: int, seed: int) -> tuple[Person, Answers]:
    """A utility over what captions don't name, and the answers of people who all share it."""
    rng = random.Random(f"planted/{seed}")
    weights = np.array([rng.gauss(0.0, 1.0) if name in _CARED else 0.0 for name in FEATURES])
    person = calibrated_on(Person(f"utility {seed}", weights), cards)
    return person, answered(person, cards, pairs, rng)


def gain_of(workshop: Workshop, tuned: Tuned, person: Person, diverse: int = 0) -> Gain:
    """Judge a training's pictures beside the base's.

    Args:
        diverse: Prompts over which diversity is looked at; 0 leaves it out.
    """

    def rate(seen: Seen) -> Array:
        return np.array([person.utility(row) for row in seen.features])

    base, found = (judged(seen, workshop.prompts, rate) for seen in (workshop.base(), workshop.look(tuned)))
    spread = float(base.utility.std()) or 1.0
    diversity = float("nan")
    if diverse:
        apart = [
            _apart(seen, diverse)
            for seen in (workshop.base(_DIVERSE, diverse), workshop.look(tuned, _DIVERSE, diverse))
        ]
        diversity = apart[1] / apart[0]
    gain = float((found.utility - base.utility).mean()) / spread
    return Gain(gain, float(wins(found.utility, base.utility)[0]), prompt_kept(found, base), diversity)


def _apart(seen: Seen, prompts: int) -> float:
    """Mean distance between pictures of one prompt; the rows are all prompts of one seed after the other."""
    x = seen.features.reshape(-1, prompts, seen.features.shape[1])
    first, second = np.triu_indices(len(x), 1)
    return float(np.linalg.norm(x[first] - x[second], axis=2).mean())
