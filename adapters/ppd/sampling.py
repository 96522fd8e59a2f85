"""Pictures for held-out people while a PPD is trained: of their own prompts, each known by a few of their answers."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import PPDError
from ..finetune.samples import Painter, Painting
from ..finetune.told import TrainingStep
from ..places import safe_name
from ..steering.conditioning import Conditioning
from .base import Base
from .data import KnowsPeople, PreparedPPD
from .denoisers import use_in
from .known import DescribedPeople, NamedPeople
from .model import PPD
from .settings import PPDSettings

__all__ = ["PeopleSamples"]

PEOPLE, PROMPTS = 3, 2


class PeopleSamples:
    """Paints every `sample_every` steps; called after each step.

    Args:
        base: Of the model under training. ppd: As it is at each moment.
        held_out: People who are not trained on; the first few are painted for.
        settings: sample_every, judged_support, seed, size, precision.
        folder: Of the training; pictures go into its folder `people`, a folder each.
        prompts: Texts by the index that pairs have.
        on_sample: Called with the step and the PNG files.
    """

    def __init__(
        self,
        base: Base,
        ppd: PPD,
        held_out: PreparedPPD | DescribedPeople | NamedPeople,
        settings: PPDSettings,
        folder: Path,
        prompts: Sequence[str],
        on_sample: Callable[[int, tuple[Path, ...]], None] | None,
    ) -> None:
        self._denoiser, self._ppd = base.denoiser, ppd
        self._every, self._on_sample = settings.sample_every, on_sample
        self._people: list[tuple[str, Painter, Tensor, Tensor]] = []
        for person, name in enumerate(held_out.names):
            rows = list(held_out.pairs_of(person))
            chosen, rejected = _known(held_out, rows, settings.judged_support)
            if len(self._people) == PEOPLE or not _says_something(ppd, chosen, rejected):
                continue
            own = list(dict.fromkeys(held_out.pair(row).prompt for row in reversed(rows)))[:PROMPTS]
            painting = Painting(
                [prompts[number] for number in own],
                [_said(held_out, number) for number in own],
                _said(held_out, -1),
                settings.size or base.size,
                settings.seed,
                folder / "people" / safe_name(name),
                getattr(torch, settings.precision),
            )
            self._people.append((name, base.painter(painting), chosen, rejected))

    def __call__(self, step: TrainingStep) -> None:
        if step.step % self._every == 0 or step.step == step.steps:
            self.paint(step.step)

    def paint(self, step: int) -> None:
        """Paint for each of them now, and tell of all pictures together."""
        files: list[Path] = []
        with _painting(self._denoiser):
            for name, painter, chosen, rejected in self._people:
                user = self._ppd.user(chosen, rejected, name)
                with use_in(self._denoiser, self._ppd, user):
                    painter.paint(step, lambda _, painted: files.extend(painted))
        if self._on_sample is not None:
            self._on_sample(step, tuple(files))


@contextlib.contextmanager
def _painting(denoiser: Any) -> Iterator[None]:
    """Have a denoiser paint, and each of its parts in the mode that it was in then: a training keeps dropout off."""
    modes = [(module, module.training) for module in denoiser.modules()]
    denoiser.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _said(data: PreparedPPD | DescribedPeople | NamedPeople, prompt: int) -> Conditioning:
    tokens, pooled = data.tokens(prompt)
    return Conditioning(tokens[None], None if pooled is None else pooled[None])


def _known(
    data: PreparedPPD | DescribedPeople | NamedPeople, rows: Sequence[int], support: int
) -> tuple[Tensor, Tensor]:
    """(n, D) twice: what a person of these pairs is known by, the first few of them where it is pairs."""
    if isinstance(data, KnowsPeople):
        numbers = data.known_by(rows[-1], support, random.Random(0)) if rows else []
        known = [(data.known(number), torch.zeros(data.known_width)) for number in numbers]
    else:
        known = [data.vectors(row) for row in rows[:support]]
    if not known:
        return torch.zeros(2, 0, 1).unbind(0)  # type: ignore[return-value]
    chosen, rejected = (torch.stack(side) for side in zip(*known, strict=True))
    return chosen, rejected


def _says_something(ppd: PPD, chosen: Tensor, rejected: Tensor) -> bool:
    """Whether answers don't cancel each other."""
    try:
        ppd.user(chosen, rejected)
    except PPDError:
        return False
    return True
