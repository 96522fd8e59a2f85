"""What people say about the pictures of several arms, as numbers.

Shapes: P people, K prompts each, A arms.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ._tables import Array

__all__ = ["Outcome", "prompt_kept", "vote_shares", "wins"]

_EVEN = 1e-9  # a difference of utility below this is none


@dataclass(frozen=True)
class Outcome:
    """One arm: a picture for each person and prompt.

    Attributes:
        utility: (P, K) of the pictures, by the judge, in units of each person's answer noise.
        kept: (P, K) whether everything that the prompt names is right, or in what share of seeds.
        seconds: For one prompt, beside painting.
        pictures: Painted for one prompt.
        degrees: By which the text embedding turned, mean.
        diversity: Mean distance between two pictures of one prompt; NaN where it wasn't looked at.
    """

    utility: Array
    kept: Array
    seconds: float = 0.0
    pictures: int = 1
    degrees: float = 0.0
    diversity: float = float("nan")

    def alike(self, other: Outcome) -> Outcome:
        """The part of this that has the prompts of another: everybody's first ones, where people saw fewer of it."""
        seen = other.utility.shape[1]
        return replace(self, utility=self.utility[:, :seen], kept=self.kept[:, :seen])


def vote_shares(utility: Array, noisy: bool) -> Array:
    """Share of votes each arm gets.

    Without noise a vote goes to the highest utility, an even one in parts. With noise it follows Luce's rule, which is
    Bradley-Terry for more than two: P(arm) = exp(utility) / sum of exp(utility); its mean, not a draw, is returned.

    Args:
        utility: (A, P, K) in units of each person's answer noise.
        noisy: Whether people err as in their answers.

    Returns:
        (A, P), each person's votes summing to 1.
    """
    if noisy:
        odds = np.exp(utility - utility.max(axis=0))
    else:
        odds = (utility >= utility.max(axis=0) - _EVEN).astype(np.float64)
    shares: Array = (odds / odds.sum(axis=0)).mean(axis=2)
    return shares


def wins(arm: Array, original: Array, noisy: bool = False) -> Array:
    """(P,) how often an arm (P, K) is preferred to the original (P, K); an even one counts half."""
    won: Array = vote_shares(np.stack([arm, original]), noisy)[0]
    return won


def prompt_kept(arm: Outcome, original: Outcome) -> float:
    """Share of pictures that keep the prompt, relative to the original's; NaN where the original keeps none."""
    base = float(original.alike(arm).kept.mean())
    return float(arm.kept.mean()) / base if base > 0 else float("nan")
