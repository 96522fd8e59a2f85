"""What a person's answers say, by kind of answer, as the learner takes it.

Shapes: N pairs, T ties, k images of an ordering or a choice, n images of a tier, D width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from .likelihood import Array

__all__ = ["Level", "Observed", "observe"]

Tiers = Sequence[Array]  # (n, D) vectors by tier, the best tier first


@dataclass(frozen=True)
class Observed:
    """Arguments of `BradleyTerry.fit`, but for the prior.

    Attributes:
        chosen, rejected: (N, D). ties: two (T, D). orderings, choices: (k, D) each, the best image first.
        sample_weight: (N + T + orderings + choices,) how often each counts, in that order.
        level: what is said about being good enough; None where nobody said that pictures are bad.
        much: (N,) whether the chosen one was said to be much better: 1 yes, 0 no, NaN not asked; None where nobody was.
        choice_much: (choices,) the same of the choices, better than all others; None where nobody was asked.
    """

    chosen: Array
    rejected: Array
    ties: tuple[Array, Array]
    orderings: tuple[Array, ...]
    choices: tuple[Array, ...]
    sample_weight: Array
    level: Level | None = None
    much: Array | None = None
    choice_much: Array | None = None

    @property
    def asked_how_much(self) -> bool:
        """Whether anybody said how much better something is."""
        return self.much is not None or self.choice_much is not None

    @property
    def arguments(self) -> dict[str, Any]:
        """For `BradleyTerry.fit(**observed.arguments)`, without the level and without how much."""
        named = {name: value for name, value in vars(self).items() if name not in ("level", "much", "choice_much")}
        return {name: value for name, value in named.items() if name not in ("orderings", "choices") or value}

    @property
    def differences(self) -> Array:
        """(M, D) of pairs and ties, and of each image of an ordering or a choice minus the first: what was told apart.

        For the scale of vectors only.
        """
        lists = [images[1:] - images[0] for images in (*self.orderings, *self.choices)]
        return np.concatenate([self.chosen - self.rejected, self.ties[0] - self.ties[1], *lists])

    def newest(self, count: int) -> Observed:
        """The latest `count` of each kind."""
        sizes = (len(self.chosen), len(self.ties[0]), len(self.orderings), len(self.choices))
        parts = np.split(self.sample_weight, np.cumsum(sizes)[:-1])
        return Observed(
            self.chosen[-count:],
            self.rejected[-count:],
            (self.ties[0][-count:], self.ties[1][-count:]),
            self.orderings[-count:],
            self.choices[-count:],
            np.concatenate([part[-count:] for part in parts]),
            None if self.level is None else self.level.newest(count),
            None if self.much is None else self.much[-count:],
            None if self.choice_much is None else self.choice_much[-count:],
        )


@dataclass(frozen=True)
class Level:
    """The same answers, where "none of them" could have been said.

    Attributes:
        others: ties, and what rankings say below their first tier.
        offered: (k, D) each, the first picked out of the others, and good enough. offered_weight: as many numbers.
        refused: (k, D) each, none of them good. refused_weight: as many numbers.
    """

    others: Observed
    offered: tuple[Array, ...]
    offered_weight: Array
    refused: tuple[Array, ...]
    refused_weight: Array

    @property
    def without(self) -> Observed:
        """The same answers, those that refuse all left out, where "none of them" could not have been said."""
        weight = np.concatenate([self.others.sample_weight, self.offered_weight])
        return replace(self.others, choices=(*self.others.choices, *self.offered), sample_weight=weight)

    def newest(self, count: int) -> Level:
        """The latest `count` of each kind."""
        return Level(
            self.others.newest(count),
            self.offered[-count:],
            self.offered_weight[-count:],
            self.refused[-count:],
            self.refused_weight[-count:],
        )


def observe(
    left: Array,
    right: Array,
    outcomes: Sequence[str],
    weight: Array,
    rankings: Sequence[tuple[Tiers, float]] = (),
    refused: Sequence[tuple[Array, float]] = (),
    much: Sequence[bool | None] | None = None,
    ranked_much: Sequence[bool | None] | None = None,
) -> Observed:
    """Sort answers by kind.

    Of a ranking, an image of a tier was picked out of itself and all images of lower tiers. That is Plackett-Luce where
    every tier but the last holds one image, as in the best of four or in a full order; of a larger tier each image
    counts as a pick of its own. One tier of k images is a tie of each pair, all of which together weigh k - 1: as
    many as there are independent differences.

    Args:
        left, right: (K, D) pairs as shown.
        outcomes: K of "left", "right", "tie".
        weight: (K,) how often each pair counts.
        rankings: Tiers, and how often they count.
        refused: Images (k, D) none of which is good, and how often that counts.
        much: K times whether the preferred one is much better; None where nobody was asked.
        ranked_much: For each ranking whether its best, alone in its tier, is much better than all others; such a
            ranking is a pick of the best, and then a ranking of the others.
    """
    outcome = np.array(outcomes, dtype=object)
    tie = outcome == "tie"
    flip = (outcome == "right")[:, None]
    chosen, rejected = np.where(flip, right, left)[~tie], np.where(flip, left, right)[~tie]
    first, second, tie_weight = [left[tie]], [right[tie]], [weight[tie]]
    orderings: list[tuple[Array, float]] = []
    choices: list[tuple[Array, float]] = []
    graded: list[float] = []  # of each choice
    hows = _graded(list(ranked_much or []))
    for number, (tiers, counts) in enumerate(rankings):
        if hows is not None and not math.isnan(hows[number]):
            choices.append((np.concatenate(tiers), counts))
            graded.append(float(hows[number]))
            tiers = tiers[1:]
            if len(tiers) == 1:  # of the best of four no more is known
                continue
        if len(tiers) == 1:
            pairs = np.array(list(combinations(range(len(tiers[0])), 2)))
            first.append(tiers[0][pairs[:, 0]])
            second.append(tiers[0][pairs[:, 1]])
            tie_weight.append(np.full(len(pairs), counts * 2.0 / len(tiers[0])))
        elif all(len(tier) == 1 for tier in tiers):
            orderings.append((np.concatenate(tiers), counts))
        else:
            for place, tier in enumerate(tiers[:-1]):
                lower = np.concatenate(tiers[place + 1 :])
                choices.extend((np.concatenate([image[None], lower]), counts) for image in tier)
        graded.extend([math.nan] * (len(choices) - len(graded)))
    lists = [counts for _, counts in (*orderings, *choices)]
    return Observed(
        chosen,
        rejected,
        (np.concatenate(first), np.concatenate(second)),
        tuple(images for images, _ in orderings),
        tuple(images for images, _ in choices),
        np.concatenate([weight[~tie], *tie_weight, np.array(lists)]),
        _level((left[tie], right[tie], weight[tie]), chosen, rejected, weight[~tie], rankings, refused)
        if refused and (len(chosen) or orderings or choices)
        else None,
        _graded([None if how is None else bool(how) for how, even in zip(much, tie, strict=True) if not even])
        if much is not None
        else None,
        None if hows is None else np.array(graded),
    )


def _graded(much: Sequence[bool | None]) -> Array | None:
    """(N,) from the first "much better" on: who has not said it yet may not know that it can be said."""
    first = next((place for place, how in enumerate(much) if how), None)
    if first is None:
        return None
    return np.array([math.nan if how is None or place < first else float(how) for place, how in enumerate(much)])


def _level(
    tied: tuple[Array, Array, Array],
    chosen: Array,
    rejected: Array,
    weight: Array,
    rankings: Sequence[tuple[Tiers, float]],
    refused: Sequence[tuple[Array, float]],
) -> Level:
    """Choices among what was shown, where one of them was good enough; of a ranking, each image of the first tier."""
    offered = [(np.stack(pair), float(counts)) for *pair, counts in zip(chosen, rejected, weight, strict=True)]
    others = [one for one in rankings if len(one[0]) == 1]
    for tiers, counts in rankings:
        lower = list(tiers[1:])
        if lower:
            offered.extend((np.concatenate([image[None], *lower]), counts) for image in tiers[0])
        if len(lower) > 1:
            others.append((lower, counts))
    left, right, counts_of_ties = tied
    return Level(
        others=observe(left, right, ["tie"] * len(left), counts_of_ties, others),
        offered=tuple(images for images, _ in offered),
        offered_weight=np.array([counts for _, counts in offered]),
        refused=tuple(images for images, _ in refused),
        refused_weight=np.array([counts for _, counts in refused]),
    )
