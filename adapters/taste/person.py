"""A taste: what was learned of one person in one encoder's space, and the way from the store to it.

Shapes: N comparisons with a preference, D joint width, H width of the text tower, r directions that were learned.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..comparisons import Comparison, PreferenceStore
from ..encoders import encode_readable
from ..errors import NotEnoughAnswersError, ShapeError
from .arrays import Matrix
from .bradley_terry import BradleyTerry
from .prior import evidence_prior_variance

_log = logging.getLogger(__name__)

TEACHING = ("left", "right", "tie")


class Encoder(Protocol):
    """What learning needs of an encoder; `ImageTextEncoder` has it."""

    identity: str
    name: str
    dim: int
    text_projection: Tensor | None

    def encode_images(self, images: list[Image.Image], /) -> Tensor:
        """(N, D) float32 on the CPU, unit norm."""


@dataclass(frozen=True, eq=False)
class Taste:
    """One person's taste in one encoder's space.

    Attributes:
        weights: (D,) float32; utility of an image = image_embedding . weights, in nats.
        encoder: identity of the encoder that the weights belong to. encoder_name: the same for people to read.
        person: whose taste.
        answers: how many answers it was learned from (preferences and ties).
        base: family of the image model it was collected on: "sd15", "sdxl", "playground", ... or "" when unknown.
        prior_variance: of each weight, before any answer.
        gain: (D, r) float32 or None; the posterior's covariance is prior_variance * (I - gain gain').
        text_weights: (H,) float32 or None: text_projection' @ weights, so that steering a prompt's hidden state
            needs no projection file.
        chosen, rejected: (N, D) float32 or None, the comparisons behind it; a file has none.
        created: when it was learned, ISO 8601 in UTC; "" when unknown.
        fitted: the model as it was fitted; None for a taste from a file.
    """

    weights: Tensor
    encoder: str
    encoder_name: str
    person: str
    answers: int
    base: str = ""
    prior_variance: float = 1.0
    gain: Tensor | None = None
    text_weights: Tensor | None = None
    chosen: Tensor | None = None
    rejected: Tensor | None = None
    created: str = ""
    fitted: BradleyTerry | None = field(default=None, repr=False)

    @property
    def width(self) -> int:
        """D."""
        return int(self.weights.shape[0])

    @property
    def direction(self) -> Tensor:
        """Weights of length 1 (D,), where this person's taste points; zeros when nothing was learned."""
        length = self.weights.norm()
        return self.weights / length if length > 0 else self.weights.clone()

    @property
    def model(self) -> BradleyTerry:
        """The fitted model; from a file, one with the same weights and as much of the posterior as the file holds."""
        return self.fitted or BradleyTerry.from_posterior(self.weights, self.prior_variance, self.gain)

    def utility(self, vectors: Matrix) -> Tensor:
        """Utility (N,) float32 in nats of image vectors (N, D); higher is liked more.

        Raises:
            ShapeError: another width, as from another encoder, or NaN.
        """
        matrix = torch.as_tensor(vectors, dtype=torch.float32)
        if matrix.ndim != 2 or matrix.shape[1] != self.width:
            raise ShapeError(
                f"Cannot rate images by the taste of {self.person!r}: vectors of shape {tuple(matrix.shape)}; expected "
                f"(N, {self.width}). Encode them with {self.encoder_name}."
            )
        if not bool(torch.isfinite(matrix).all()):
            raise ShapeError(f"Cannot rate images by the taste of {self.person!r}: the vectors hold NaN or infinity.")
        return matrix.cpu() @ self.weights


@dataclass(frozen=True)
class Answers:
    """One person's teaching answers as vectors, oldest first.

    Attributes:
        comparisons: (K,) those with a preference and ties, both images known.
        left, right: (K, D) float64 vectors as shown.
    """

    comparisons: tuple[Comparison, ...]
    left: Any
    right: Any

    def table(self, count: int | None = None) -> tuple[Any, Any, tuple[Any, Any]]:
        """chosen, rejected and ties of the first `count` answers, as `BradleyTerry.fit` takes them."""
        outcome = np.array([comparison.outcome for comparison in self.comparisons[:count]], dtype=object)
        left, right = self.left[: len(outcome)], self.right[: len(outcome)]
        decided, flip = outcome != "tie", (outcome == "right")[:, None]
        chosen, rejected = np.where(flip, right, left), np.where(flip, left, right)
        return chosen[decided], rejected[decided], (left[~decided], right[~decided])


def read_answers(store: PreferenceStore, encoder: Encoder, person: str) -> Answers:
    """Read what `person` answered and encode the images that no one encoded before.

    "both_bad" is left out: it says that two pictures lie below what the person would accept, and nothing about which
    of the two is better; Bradley-Terry has differences only, no such level. Taking it for a tie would pull good
    directions towards zero that the two pictures happen to differ in. "skip" is no answer.
    """
    found = [c for c in store.comparisons(person) if c.outcome in TEACHING]
    ids = list(dict.fromkeys(i for c in found for i in (c.left, c.right)))
    vectors = {i: v.numpy().astype(np.float64) for i, v in encode_readable(store, encoder, ids).items()}
    usable = tuple(c for c in found if c.left in vectors and c.right in vectors)
    if len(usable) < len(found):
        _log.warning(
            "%d answers of %s are left out: their pictures are gone or damaged", len(found) - len(usable), ascii(person)
        )
    empty = np.zeros((0, encoder.dim))
    left = np.stack([vectors[c.left] for c in usable]) if usable else empty
    right = np.stack([vectors[c.right] for c in usable]) if usable else empty
    return Answers(usable, left, right)


def fit_taste(
    store: PreferenceStore,
    encoder: Encoder,
    person: str,
    prior_variance: float | None = None,
    base: str = "",
) -> Taste:
    """Learn one person's taste from the store.

    Args:
        store: where the answers are.
        encoder: an `ImageTextEncoder`, or what has its attributes.
        person: whose.
        prior_variance: of each weight, > 0; None picks the one that expected the answers best (`prior.py`).
        base: family of the image model, for the file.

    Raises:
        NotEnoughAnswersError: no answer yet that teaches anything.
    """
    answers = read_answers(store, encoder, person)
    if not answers.comparisons:
        raise NotEnoughAnswersError(_nothing(person, store.comparisons(person)))
    chosen, rejected, ties = answers.table()
    variance = evidence_prior_variance(chosen, rejected, ties) if prior_variance is None else prior_variance
    model = BradleyTerry(variance).fit(chosen, rejected, ties=ties)
    weights = torch.from_numpy(model.weights_.astype(np.float32))
    projection = getattr(encoder, "text_projection", None)
    return Taste(
        weights=weights,
        encoder=encoder.identity,
        encoder_name=encoder.name,
        person=person,
        answers=len(answers.comparisons),
        base=base,
        prior_variance=float(variance),
        text_weights=None if projection is None else projection.detach().float().cpu().T @ weights,
        chosen=torch.from_numpy(chosen.astype(np.float32)),
        rejected=torch.from_numpy(rejected.astype(np.float32)),
        created=_now(),
        fitted=model,
    )


def _now() -> str:
    from datetime import datetime, timezone

    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _nothing(person: str, comparisons: Sequence[Comparison]) -> str:
    name = person if len(person) <= 60 else person[:57] + "..."
    if not comparisons:
        return f"Cannot learn a taste: {name!r} has not compared anything yet. Compare two pictures first."
    return (
        f"Cannot learn a taste: {name!r} gave {len(comparisons)} answer(s), none of which says which picture is better "
        "(both bad, skipped, or the pictures are gone or damaged). Compare two pictures first."
    )
