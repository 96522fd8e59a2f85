"""Diffusion-KTO: each image by itself is liked or disliked."""

from __future__ import annotations

import torch
from torch import Tensor

from .errors_of_pairs import PairErrors, PairLoss, require_number

__all__ = ["kto"]


def kto(
    errors: PairErrors,
    *,
    beta: float,
    chosen_weight: float = 1.0,
    rejected_weight: float = 1.0,
    baseline: Tensor | float | None = None,
) -> PairLoss:
    """Return 1 - value of both images, the chosen one valued for improving and the rejected one for getting worse.

        loss = [chosen_weight (1 - sigmoid(z_chosen)) + rejected_weight (1 - sigmoid(-z_rejected))] / 2
        z = beta / 2 * (improvement - baseline),   margin = z_chosen - z_rejected

    Args:
        errors: (B,) each, with the reference's.
        beta: > 0; the paper's 1000 has no half inside, it is 2000 here.
        chosen_weight, rejected_weight: >= 0.
        baseline: mean improvement over everything, at least 0, without gradient; this batch's when None.

    Source: Li et al. 2024, Diffusion-KTO, arXiv:2404.04465, as in its code. Differs: images come as pairs.
    """
    require_number("beta", beta, above=0.0)
    chosen, rejected = errors.improvement()
    if baseline is None:
        baseline = torch.cat([chosen, rejected]).mean().clamp(min=0.0).detach()
    z_chosen, z_rejected = 0.5 * beta * (chosen - baseline), 0.5 * beta * (rejected - baseline)
    loss = chosen_weight * torch.sigmoid(-z_chosen) + rejected_weight * torch.sigmoid(z_rejected)
    return PairLoss(0.5 * loss, z_chosen - z_rejected)
