"""Diffusion-RPO: every chosen image against every rejected one of the batch, near ones more.

Shapes: B pairs, D width of the embeddings.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ...errors import FineTuneError, ShapeError
from .errors_of_pairs import PairErrors, PairLoss, require_number

__all__ = ["contrast_weights", "rpo"]


def rpo(errors: PairErrors, *, beta: float, weights: Tensor | None = None, place: str = "inside") -> PairLoss:
    """Return for each chosen image i the weighted contrast with all rejected images j.

        inside:   loss_i = sum_j -log sigmoid(weights_ij log_odds_ij)
        outside:  loss_i = sum_j -weights_ij log sigmoid(log_odds_ij)
        log_odds_ij = beta / 2 * (improvement on chosen i - improvement on rejected j)

    Errors at different timesteps have different sizes: give all pairs of a batch one timestep. A batch of one is DPO.
    Pairs whose weight is 0 add log 2 to the value of `inside` and nothing to its gradient.

    Args:
        errors: (B,) each, with the reference's; B of 4 or more to have a contrast at all.
        beta: > 0, as for `dpo`.
        weights: (B, B), rows sum to 1, from `contrast_weights`; None is each pair alone, which is DPO.
        place: "inside" as in the same group's code for language models, or "outside".

    Returns:
        PairLoss; margin (B,) is each pair's own log-odds.

    Source: Gu et al. 2024, Diffusion-RPO, arXiv:2406.06382, whose code was not released, after the same group's RPO
    (Yin et al. 2024, arXiv:2402.10958). Differs: sum over j instead of a mean, so that weights of the identity are DPO.
    """
    chosen, rejected = errors.improvement()
    log_odds = 0.5 * beta * (chosen[:, None] - rejected[None, :])
    own = log_odds.diagonal()
    if weights is None:
        return PairLoss(-F.logsigmoid(own), own)
    if weights.shape != log_odds.shape:
        raise ShapeError(
            f"Cannot contrast the batch: weights of shape {tuple(weights.shape)}; expected {tuple(log_odds.shape)}. "
            "Give `contrast_weights` the embeddings of this batch."
        )
    weights = weights.detach().to(log_odds)
    if place == "inside":
        return PairLoss(-F.logsigmoid(weights * log_odds).sum(dim=1), own)
    if place == "outside":
        return PairLoss(-(weights * F.logsigmoid(log_odds)).sum(dim=1), own)
    raise FineTuneError(f'Cannot contrast the batch: place {place!r}; expected "inside" or "outside".')


def contrast_weights(chosen: Tensor, rejected: Tensor, temperature: float = 0.1) -> Tensor:
    """Return how much each rejected image counts for each chosen one: softmax_j(-(1 - cosine_ij) / temperature).

    Args:
        chosen, rejected: (B, D) embeddings of the images, with their prompts' beside them (see `pair_embedding`).
        temperature: > 0. Distances of unlike CLIP embeddings are about 0.2: at 0.5 the weights are almost even, at 0.05
            a pair's own rejected image has most of it. The paper's is not known.

    Returns:
        (B, B), rows sum to 1, no gradient.
    """
    require_number("temperature", temperature, above=0.0)
    if chosen.ndim != 2 or chosen.shape != rejected.shape:
        raise ShapeError(
            f"Cannot weigh the batch: embeddings of shapes {tuple(chosen.shape)} and {tuple(rejected.shape)}; expected "
            "one shape (B, D) for both."
        )
    with torch.no_grad():
        cosine = F.normalize(chosen.float(), dim=1) @ F.normalize(rejected.float(), dim=1).T
        return torch.softmax((cosine - 1.0) / temperature, dim=1)


def pair_embedding(image: Tensor, text: Tensor) -> Tensor:
    """Join image and prompt embeddings (B, D) each to (B, 2 D), so that cosines are the mean of both cosines."""
    return torch.cat([F.normalize(image.float(), dim=1), F.normalize(text.float(), dim=1)], dim=1)
