"""A taste: what was learned of one person in one encoder's space, and the way from the store to it.

Shapes: N comparisons with a preference, D joint width, H width of the text tower, r directions that were learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..comparisons import Comparison, PreferenceStore
from ..errors import NotEnoughAnswersError, ShapeError
from .answers import TEACHING, Answers, Encoder, read_answers
from .arrays import Matrix
from .bradley_terry import BradleyTerry
from .prior import Prior, evidence_prior
from .shares import Accuracy
from .subspace import Subspace

__all__ = ["TEACHING", "Answers", "Encoder", "Taste", "fit_taste", "read_answers"]


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
        accuracy: how well it foresaw answers, as `learned_report` found it; None when nobody looked.
        author, licence: of the file, as somebody wished to be named and to let others use it; "" where not said.
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
    accuracy: Accuracy | None = None
    author: str = ""
    licence: str = ""
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


def fit_taste(
    store: PreferenceStore,
    encoder: Encoder,
    person: str,
    prior_variance: float | None = None,
    base: str = "",
    population: bool = True,
    half_life: float | None = None,
    subspace: Subspace | Literal["auto"] | None = "auto",
) -> Taste:
    """Learn one person's taste from the store.

    Args:
        store: where the answers are.
        encoder: an `ImageTextEncoder`, or what has its attributes.
        person: whose.
        prior_variance: of each weight, > 0; None picks the one that expected the answers best (`prior.py`).
        base: family of the image model, for the file.
        population: whether to expect what the other people of the store have in common, if there is any such thing.
        half_life: days after which an answer counts half, > 0; None counts all alike.
        subspace: in which directions the encoder's images vary; "auto" looks at all that the store holds, None takes
            a prior that is the same in all directions, as a given prior_variance does.

    Raises:
        ShapeError: prior_variance or half_life is not above 0.
        NotEnoughAnswersError: no answer yet that teaches anything.
    """
    answers = read_answers(store, encoder, person, half_life, subspace, population and prior_variance is None)
    if not answers.comparisons:
        raise NotEnoughAnswersError(_nothing(person, store.comparisons(person)))
    observed = answers.observed()
    if prior_variance is None:
        prior = evidence_prior(observed, answers.subspace, answers.population)
    else:
        prior = Prior(prior_variance)
    model = prior.fit(observed)
    chosen, rejected = answers.preferences()
    weights = torch.from_numpy(model.weights_.astype(np.float32))
    projection = getattr(encoder, "text_projection", None)
    return Taste(
        weights=weights,
        encoder=encoder.identity,
        encoder_name=encoder.name,
        person=person,
        answers=answers.given,
        base=base,
        prior_variance=float(prior.variance),
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
