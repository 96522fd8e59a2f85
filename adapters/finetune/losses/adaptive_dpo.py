"""Adaptive-DPO: comparisons that look mistaken, or like another taste than most, count less.

Shapes: B pairs, M annotators: the policy itself and averages of its own past.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ...errors import ShapeError
from .errors_of_pairs import PairErrors, PairLoss

__all__ = ["Minority", "adaptive_dpo", "minority"]

SHARPNESS = 15.0  # the released code's scale of log-odds that were divided by their norm over the batch


@dataclass(frozen=True, eq=False)
class Minority:
    """How much each pair looks as if its label were not the majority's, (B,) each in [0, 1], without gradient.

    Attributes:
        doubt: 1 - mean over annotators of sigmoid(log-odds): high where they disagree with the label.
        unrest: spread of the annotators' log-odds, at most 1: high where they disagree with each other.
        score: what the weight is made from.
    """

    doubt: Tensor
    unrest: Tensor
    score: Tensor


def minority(log_odds: Tensor, *, released: bool = False) -> Minority:
    """Return the minority metric of pairs from the annotators' log-odds (M, B), in nats.

        score = max(doubt * unrest, 2 doubt - 1, 0)

    The paper's doubt * unrest alone is 0 for a pair that all annotators are firmly against. Its released code besides
    divides the log-odds by their norm over the batch, so that a pair's score depends on its neighbours and on the
    batch's size, and is noise as long as nothing was learned; `released` does both.

    Source: Zhang et al. 2025, Adaptive-DPO, arXiv:2503.16921, equations 11 to 13, and the authors' code.
    """
    if log_odds.ndim != 2:
        raise ShapeError(f"Cannot judge pairs: log-odds of shape {tuple(log_odds.shape)}; expected (M, B).")
    with torch.no_grad():
        found = log_odds.detach().float()
        if released:
            found = SHARPNESS * found / found.norm(dim=1, keepdim=True).clamp(min=1e-12)
        doubt = 1.0 - torch.sigmoid(found).mean(dim=0)
        spread = found.std(dim=0) if len(found) > 1 else torch.zeros_like(doubt)
        unrest = spread.clamp(max=1.0)
        score = doubt * unrest
        if not released:
            score = torch.maximum(score, (2.0 * doubt - 1.0).clamp(min=0.0))
        return Minority(doubt, unrest, score)


def adaptive_dpo(
    errors: PairErrors,
    *,
    beta: float,
    annotators: Sequence[PairErrors] = (),
    k1: float = 10.0,
    c1: float = 1.0,
    k2: float = 0.0,
    c2: float | None = 0.0,
    released: bool = False,
) -> PairLoss:
    """Return DPO with each pair weighed, and its margin shifted, by how mistaken its label looks.

        loss = -weight log sigmoid(margin - shift),   weight = 1 / (k1 score + c1),   shift = c2 - k2 score^2

    Args:
        errors: (B,) each, with the reference's.
        beta: > 0, as for `dpo`; the paper's 1000 has no half inside, it is 2000 here.
        annotators: errors of averages of the policy's weights on the same noisy images, without gradient; the release
            has two, with decays 0.9999 and 0.5. None: the policy judges alone.
        k1, c1: of the weight. k1 = 0 with c1 = 1 switches it off.
        k2, c2: of the shift, in nats; c2 None is the batch's mean margin. Zero both: no shift.
        released: judge and shift as the authors' code does: see `minority`; shift = mean of margin * 2 / beta minus
            2 / beta * score^2, which is some thousandths of a nat and without effect.

    Source: Zhang et al. 2025, Adaptive-DPO, arXiv:2503.16921, equation 15, and the authors' code.
    """
    margin = errors.log_odds(beta)
    judges = [margin, *(one.log_odds(beta) for one in annotators)]
    score = minority(torch.stack(judges), released=released).score
    weight = 1.0 / (k1 * score + c1)
    scale = 1.0
    if released:
        scale, k2, c2 = 2.0 / beta, 2.0 / beta, None
    shift = (scale * margin.detach().mean() if c2 is None else c2) - k2 * score**2
    return PairLoss(-weight * F.logsigmoid(margin - shift), margin)
