"""A taste as a word for other tools: a few input vectors, trained through the frozen text towers.

Behind any prompt, "<prompt>, <vectors>", they turn the prompt's embedding x along the taste, and say as little else as
can be. x* is where the closed form takes a prompt; with u the way there at x (unit, tangent), x = a x₀ + b u + rest:

    loss = (mean over prompts of atan2(b, a) − turn)² + keep · mean ‖rest‖²        (radians, prompts of a batch)

Adam on the vectors alone; after each step their norms are put back into the range of real words' vectors, because text
towers know nothing of what lies outside. A tower that no taste belongs to (SDXL has two) gets vectors that change its
x as little as possible: its loss is mean ‖x − x₀‖².

Shapes: P prompts, T tokens, n vectors, H width of a text tower, D joint width.

Source: Gal et al. 2022, textual inversion, arXiv:2208.01618, with the objective of Gallego 2023, arXiv:2308.07929, in
place of a denoiser's. Differs: no denoiser and no pictures are needed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import CancelledError, EncoderMismatchError, SteeringError
from .course import Aim, Course
from .descent import Adam, Cancelled, OnStep
from .objective import TasteLike
from .portable import MOST_VECTORS, PortableEmbedding, TowerText, prompt_rows
from .words import towers_of

__all__ = ["PortableEmbedding", "TowerText", "towers_of", "train_embedding"]

VECTORS, STEPS, TURN, KEEP = 4, 100, 25.0, 1.0
BATCH = 8  # prompts a step
RATE = 0.5  # of Adam at first, in units of a real vector's coordinate


def train_embedding(
    towers: Mapping[str, TowerText],
    tastes: Sequence[TasteLike],
    prompts: Sequence[str],
    vectors: int = VECTORS,
    steps: int = STEPS,
    turn: float = TURN,
    seed: int = 0,
    keep: float = KEEP,
    on_step: OnStep | None = None,
    cancelled: Cancelled | None = None,
) -> PortableEmbedding:
    """Train input vectors that carry a taste to any prompt.

    Nothing of a tower is changed, and its parameters may be inference tensors. The same seed gives the same vectors.

    Args:
        towers: By name: "clip_l"; for SDXL "clip_l" and "clip_g".
        tastes: One, which moves the tower that its encoder belongs to; or one of the same person for each tower.
        prompts: At least one, such as people write. A fourth of four or more is kept out of training, to measure on.
        vectors: n, 1 to MOST_VECTORS; each takes a place of the prompt's 75.
        steps: Of Adam, >= 1, for each tower.
        turn: Degrees in (0, 90] along the taste that are aimed at.
        seed: Of the order of prompts and of the first vectors.
        keep: What losing the prompt costs, >= 0; more keeps more of it and turns less.
        on_step: Called with (steps done, steps), over all towers.
        cancelled: Asked before every step.

    Returns:
        The embedding, with what it does to the prompts that were kept out (all of them where there are too few).

    Raises:
        CancelledError: `cancelled` said so.
        EncoderMismatchError: a taste belongs to none of the towers.
        SteeringError: wrong settings, no prompts, an empty taste, or the vectors became NaN.
        ShapeError: a taste doesn't fit its tower.
    """
    _require(towers, tastes, prompts, vectors, steps, turn, keep)
    moving = _matched(towers, tastes)
    trained, held = _split(list(dict.fromkeys(prompts)), seed)
    aim = Aim(vectors, steps, math.radians(turn), keep, seed)
    found: dict[str, Tensor] = {}
    measured: list[tuple[float, float]] = []
    with torch.inference_mode(False), torch.no_grad():
        for number, (name, tower) in enumerate(towers.items()):
            note = _Progress(number * steps, len(towers) * steps, on_step, cancelled)
            taste = moving.get(name)
            with tower.placed():
                course = Course(tower, taste, aim)
                found[name] = _train(course, trained, note)
                if taste is not None:
                    measured.append(course.effect(held, found[name]))
    effect = {key: sum(row[i] for row in measured) / len(measured) for i, key in enumerate(("degrees", "kept"))}
    first = next(iter(moving.values()))
    return PortableEmbedding(
        {name: value.cpu() for name, value in found.items()},
        person=getattr(first, "person", ""),
        base="sdxl" if len(towers) > 1 else getattr(first, "base", ""),
        effect=effect,
        encoders={name: taste.encoder for name, taste in moving.items()},
        answers=max(int(getattr(taste, "answers", 0)) for taste in moving.values()),
        created=getattr(first, "created", ""),
    )


@dataclass(frozen=True)
class _Progress:
    before: int
    total: int
    on_step: OnStep | None
    cancelled: Cancelled | None

    def ask(self, done: int) -> None:
        if self.cancelled is not None and self.cancelled():
            raise CancelledError(f"Cancelled after {self.before + done} of {self.total} steps of training.")

    def tell(self, done: int) -> None:
        if self.on_step is not None:
            self.on_step(self.before + done, self.total)


def _train(course: Course, prompts: Sequence[str], progress: _Progress) -> Tensor:
    """(n, H) vectors for one tower."""
    aim, draw = course.aim, torch.Generator().manual_seed(course.aim.seed)
    order = torch.randperm(len(prompts), generator=draw).tolist()
    batches = [course.batch([prompts[i] for i in order[k : k + BATCH]]) for k in range(0, len(order), BATCH)]
    lowest, middle, highest = _norms(course.tower, prompts)
    step = middle / math.sqrt(course.tower.width)
    table = course.tower.table
    comma = course.tower.tokenize(",")[0][1]
    noise = torch.randn(aim.vectors, table.shape[1], generator=draw) * step / 10
    vectors = (table[comma].cpu() + noise).to(course.device).clone().requires_grad_()
    steps = Adam([vectors], RATE * step)
    for number in range(aim.steps):
        progress.ask(number)
        with torch.enable_grad():
            loss = batches[number % len(batches)].loss(vectors, aim)
            steps.read(torch.autograd.grad(loss, [vectors]))
        steps.move(RATE * step * (1 + math.cos(math.pi * number / aim.steps)) / 2)
        norms = vectors.norm(dim=-1, keepdim=True)
        vectors.mul_(norms.clamp(lowest, highest) / norms)
        progress.tell(number + 1)
    if not bool(torch.isfinite(vectors).all()):
        raise SteeringError("Cannot make an embedding: its vectors became NaN. Check the model's text encoder.")
    return vectors.detach()


def _norms(tower: TowerText, prompts: Sequence[str]) -> tuple[float, float, float]:
    """Lowest, usual and highest norm of real words' vectors: those of the prompts and the bulk of the vocabulary."""
    table = tower.table.norm(dim=-1).cpu()
    ids = prompt_rows(tower.tokenize, prompts, 0).ids
    blank = tower.tokenize("")[0][:2].cpu()
    words = ids[~torch.isin(ids, blank)]
    used = table[words] if len(words) else table
    bulk = table.sort().values[[len(table) // 100, len(table) // 2, len(table) * 99 // 100]].tolist()
    return min(bulk[0], float(used.min())), float(used.median()), max(bulk[2], float(used.max()))


def _split(prompts: list[str], seed: int) -> tuple[list[str], list[str]]:
    """Prompts to train on and to measure on: every fourth, drawn by chance."""
    if len(prompts) < 4:
        return prompts, prompts
    order = torch.randperm(len(prompts), generator=torch.Generator().manual_seed(seed)).tolist()
    held = set(order[: len(prompts) // 4])
    return [p for i, p in enumerate(prompts) if i not in held], [p for i, p in enumerate(prompts) if i in held]


def _matched(towers: Mapping[str, TowerText], tastes: Sequence[TasteLike]) -> dict[str, TasteLike]:
    found: dict[str, TasteLike] = {}
    for taste in tastes:
        fitting = [name for name, tower in towers.items() if tower.takes(taste) and name not in found]
        if not fitting:
            raise EncoderMismatchError(
                f"Cannot make an embedding of this taste: {taste.encoder_name or 'its encoder'} "
                f"({taste.encoder[:12]}) belongs to no text encoder of this model that is still free "
                f"({', '.join(towers)}); expected one taste for each. Choose the encoder of this model and fit again."
            )
        found[fitting[0]] = taste
    return found


def _require(
    towers: Mapping[str, TowerText],
    tastes: Sequence[TasteLike],
    prompts: Sequence[str],
    vectors: int,
    steps: int,
    turn: float,
    keep: float,
) -> None:
    faults = []
    if not 1 <= vectors <= MOST_VECTORS:
        faults.append(f"{vectors} vectors; expected 1 to {MOST_VECTORS}")
    if steps < 1:
        faults.append(f"{steps} steps; expected at least 1")
    if not 0 < turn <= 90:
        faults.append(f"turn {turn}; expected degrees in (0, 90]")
    if not 0 <= keep < math.inf:
        faults.append(f"keep {keep}; expected 0 or more")
    if not tastes:
        faults.append("no taste; expected one or two")
    if not towers:
        faults.append("no text encoder; expected one or two")
    if not prompts:
        faults.append("no prompts; expected some such as people write")
    if faults:
        raise SteeringError(f"Cannot make an embedding: {'; '.join(faults)}. Change that.")
