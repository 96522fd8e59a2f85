"""One person's answers as vectors, and what the learner is told of them.

Shapes: K comparisons, D width, n images of one tier.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np
from PIL import Image
from torch import Tensor

from ..comparisons import Comparison, PreferenceStore, Ranking
from ..encoders import encode_readable
from ..errors import ShapeError
from .bradley_terry import BradleyTerry
from .likelihood import Array
from .observed import Observed, observe
from .population import Population, stored_population
from .prior import Prior, evidence_prior
from .subspace import Subspace, stored_subspace

__all__ = ["TEACHING", "Answers", "Encoder", "known_answers", "read_answers"]

_log = logging.getLogger(__name__)

TEACHING = ("left", "right", "tie")
DAY = 86_400.0  # seconds


class Encoder(Protocol):
    """What learning needs of an encoder; `ImageTextEncoder` has it."""

    identity: str
    name: str
    dim: int
    text_projection: Tensor | None

    def encode_images(self, images: list[Image.Image], /) -> Tensor:
        """(N, D) float32 on the CPU, unit norm."""


@dataclass(frozen=True)
class Refused:
    """An answer that none of several pictures is good.

    Attributes:
        comparison: the first that it implies. images: (k, D) float64.
    """

    comparison: Comparison
    images: Array


@dataclass(frozen=True)
class Answers:
    """One person's teaching answers as vectors, oldest first.

    Attributes:
        comparisons: (K,) those with a preference and ties, both images known; of a ranking, all that it implies.
        left, right: (K, D) float64 vectors as shown.
        rankings: tiers of vectors (n, D), the best tier first, by the number of the ranking.
        half_life: days after which an answer counts half, > 0; None for never.
        subspace: in which directions the encoder's images vary; None where that is not known.
        population: what other people's tastes have in common; None where that is not known.
        refused: answers that no picture is good.
    """

    comparisons: tuple[Comparison, ...]
    left: Any
    right: Any
    rankings: Mapping[int, tuple[Array, ...]] = field(default_factory=dict)
    half_life: float | None = None
    subspace: Subspace | None = None
    population: Population | None = None
    refused: tuple[Refused, ...] = ()

    def __post_init__(self) -> None:
        if self.half_life is not None and not self.half_life > 0.0:
            raise ShapeError(
                f"Cannot use a half-life of {self.half_life:g}; expected days above 0. Without one all answers count "
                "alike."
            )

    @property
    def given(self) -> int:
        """How many answers there are; a ranking is one."""
        pairs = sum(c.ranking is None for c in self.comparisons)
        return pairs + len({c.ranking for c in self.comparisons} - {None})

    def observed(self, count: int | None = None) -> Observed:
        """What the first `count` comparisons say; of a ranking, its tiers instead of the comparisons it implies."""
        comparisons = self.comparisons[:count]
        weight = self._weights(comparisons)
        pairs = [i for i, c in enumerate(comparisons) if c.ranking not in self.rankings]
        first = {c.ranking: float(weight[i]) for i, c in enumerate(comparisons) if c.ranking in self.rankings}
        much = {c.ranking: c.much for c in comparisons if c.much is not None and c.ranking in self.rankings}
        return observe(
            self.left[pairs],
            self.right[pairs],
            [comparisons[i].outcome for i in pairs],
            weight[pairs],
            [(self.rankings[number], counts) for number, counts in first.items() if number is not None],
            self._refused(count),
            [comparisons[i].much for i in pairs],
            [much.get(number) for number in first],
        )

    def weights(self) -> Array:
        """(K,) how often each comparison counts, in (0, 1]; the newest once, one of a half-life earlier half."""
        return self._weights(self.comparisons)

    def preferences(self) -> tuple[Array, Array]:
        """chosen, rejected (N, D): every comparison with a preference, those that rankings imply too."""
        outcome = np.array([c.outcome for c in self.comparisons], dtype=object)
        decided, flip = outcome != "tie", (outcome == "right")[:, None]
        chosen, rejected = np.where(flip, self.right, self.left), np.where(flip, self.left, self.right)
        return chosen[decided], rejected[decided]

    def prior(self, count: int | None = None) -> Prior:
        """The prior that expected the first `count` comparisons best."""
        return evidence_prior(self.observed(count), self.subspace, self.population)

    def fit(self, count: int | None = None, prior: Prior | None = None) -> BradleyTerry:
        """Learn from the first `count` comparisons; under the prior that expected them best if none is given."""
        observed = self.observed(count)
        return (prior or evidence_prior(observed, self.subspace, self.population)).fit(observed)

    def first(self, count: int) -> Answers:
        """The first `count` answers alone, a ranking being one; those that no picture is good are left out."""
        answers: set[tuple[str, int]] = set()
        end = 0
        for row, comparison in enumerate(self.comparisons):
            ranking = comparison.ranking
            answers.add(("pair", row) if ranking is None else ("ranking", ranking))
            if len(answers) > count:
                break
            end = row + 1
        return replace(
            self, comparisons=self.comparisons[:end], left=self.left[:end], right=self.right[:end], refused=()
        )

    def _weights(self, comparisons: Sequence[Comparison], newest: float | None = None) -> Array:
        """(K,) how often each counts; the newest counts once."""
        if self.half_life is None or not comparisons:
            return np.ones(len(comparisons))
        created = np.array([c.created or 0.0 for c in comparisons])
        latest = created.max() if newest is None else newest
        return np.asarray(0.5 ** (np.maximum(latest - created, 0.0) / (DAY * self.half_life)))

    def _refused(self, count: int | None) -> list[tuple[Array, float]]:
        """Pictures that were all bad, and how often that counts, of the answers before comparison number `count`."""
        told = self.comparisons[:count]
        later = None if count is None or count >= len(self.comparisons) else self.comparisons[count].id
        found = [one for one in self.refused if later is None or (one.comparison.id or 0) < later]
        newest = max((c.created or 0.0 for c in told), default=None)
        weights = self._weights([one.comparison for one in found], newest)
        return [(one.images, float(weight)) for one, weight in zip(found, weights, strict=True)]


def read_answers(
    store: PreferenceStore,
    encoder: Encoder,
    person: str,
    half_life: float | None = None,
    subspace: Subspace | Literal["auto"] | None = "auto",
    population: bool = True,
) -> Answers:
    """Read what `person` answered and encode the images that no one encoded before.

    "both_bad" says that pictures lie below what the person would accept, and nothing about which of them is better: see
    `level.py`. "skip" is no answer.

    Pictures that are gone or damaged are left out, and of a ranking the others still count.

    Args:
        half_life: as in `Answers`.
        subspace: as in `Answers`; "auto" looks at all images of this encoder that the store holds.
        population: whether to expect what the other people of the store have in common.
    """
    everything = store.comparisons(person)
    found = [c for c in everything if c.outcome in TEACHING]
    bad = [c for c in everything if c.outcome == "both_bad"] if found else []
    ids = list(dict.fromkeys(i for c in (*found, *bad) for i in (c.left, c.right)))
    vectors = {i: v.numpy() for i, v in encode_readable(store, encoder, ids).items()}
    answers = _answers(store, person, found, vectors, encoder.dim)
    missing = len(found) - len(answers.comparisons)
    if missing:
        _log.warning("%d answers of %s are left out: their pictures are gone or damaged", missing, ascii(person))
    return replace(
        answers,
        refused=_refusals(bad, vectors),
        half_life=half_life,
        subspace=stored_subspace(store, encoder.identity) if subspace == "auto" else subspace,
        population=stored_population(store, encoder.identity, person) if population else None,
    )


def known_answers(store: PreferenceStore, encoder: str, person: str) -> Answers:
    """Read those of a person's answers whose pictures have a cached vector of this encoder, given by its identity."""
    found = [c for c in store.comparisons(person) if c.outcome in TEACHING]
    vectors = store.vectors(encoder, [i for c in found for i in (c.left, c.right)])
    return _answers(store, person, found, vectors, 0)


def _answers(
    store: PreferenceStore, person: str, found: Sequence[Comparison], known: Mapping[str, Any], width: int
) -> Answers:
    vectors = {i: v.astype(np.float64) for i, v in known.items()}
    usable = tuple(c for c in found if c.left in vectors and c.right in vectors)
    empty = np.zeros((0, width))
    left = np.stack([vectors[c.left] for c in usable]) if usable else empty
    right = np.stack([vectors[c.right] for c in usable]) if usable else empty
    rankings = {}
    if any(c.ranking is not None for c in usable):
        stored = {r.id: r for r in store.rankings(person) if r.id is not None}
        rankings = {number: _tiers(ranking, vectors) for number, ranking in stored.items()}
        # "Not much better than the others" may have been said because of one that is gone.
        parts = {number for number, ranking in stored.items() if not all(image in vectors for image in ranking.images)}
        usable = tuple(replace(c, much=None) if c.ranking in parts and c.much is False else c for c in usable)
    return Answers(usable, left, right, rankings)


def _refusals(bad: Sequence[Comparison], known: Mapping[str, Any]) -> tuple[Refused, ...]:
    """Answers that no picture is good, oldest first: a ranking's comparisons are one answer."""
    answers: dict[tuple[str, int | None], list[Comparison]] = {}
    for c in bad:
        answers.setdefault(("pair", c.id) if c.ranking is None else ("ranking", c.ranking), []).append(c)
    found = []
    for one in answers.values():
        images = list(dict.fromkeys(i for c in one for i in (c.left, c.right)))
        if all(image in known for image in images):
            found.append(Refused(one[0], np.stack([known[image] for image in images]).astype(np.float64)))
    return tuple(found)


def _tiers(ranking: Ranking, vectors: Mapping[str, Array]) -> tuple[Array, ...]:
    """Vectors (n, D) by tier, of the pictures that have one."""
    known = [[vectors[image] for image in tier if image in vectors] for tier in ranking.tiers]
    return tuple(np.stack(tier) for tier in known if tier)
