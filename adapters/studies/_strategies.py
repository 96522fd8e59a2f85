"""Ways to pick what to show next; each is a function of what was learned so far.

Shapes: M pictures, D joint width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ..taste import BradleyTerry, choose_pair, choose_set
from ._tables import Array

__all__ = ["STRATEGIES", "Ask", "make_ask"]

STRATEGIES = ("random", "uncertainty", "ours")

Learned = Callable[[], BradleyTerry]
Ask = Callable[[Learned | None, Array, int, np.random.Generator], Any]  # model, (M, D), images, -> their indices


def make_ask(strategy: str) -> Ask:
    """A new asker of this kind; it remembers what it asked one person."""
    asked: set[tuple[int, int]] = set()

    def ask(learned: Learned | None, vectors: Array, size: int, rng: np.random.Generator) -> Any:
        if strategy == "random" or learned is None:
            return rng.choice(len(vectors), size, replace=False)
        model = learned()
        shown: tuple[int, ...]
        if size == 2:
            name = "uncertainty" if strategy == "uncertainty" else "information_gain"
            pair = choose_pair(model, vectors, name, exclude=asked, generator=_numbers(rng))
            asked.add(pair)
            shown = pair
        elif strategy == "uncertainty":
            shown = _nearest(model, vectors, size, asked)
        else:
            shown = choose_set(model, vectors, size, exclude=asked, generator=_numbers(rng))
            asked.update((min(i, j), max(i, j)) for i in shown for j in shown if i != j)
        return np.array(shown)

    return ask


def _nearest(model: BradleyTerry, vectors: Array, size: int, asked: set[tuple[int, int]]) -> tuple[int, ...]:
    """The images whose utilities lie closest together, of those that were not shown together before."""
    order = np.argsort(model.utility(vectors), kind="stable")
    utility = model.utility(vectors)[order]
    for start in np.argsort(utility[size - 1 :] - utility[: len(order) - size + 1], kind="stable"):
        shown = tuple(int(k) for k in order[start : start + size])
        pairs = {(min(i, j), max(i, j)) for i in shown for j in shown if i != j}
        if not pairs & asked:
            break
    asked.update(pairs)
    return shown


def _numbers(rng: np.random.Generator) -> torch.Generator:
    return torch.Generator().manual_seed(int(rng.integers(2**31)))
