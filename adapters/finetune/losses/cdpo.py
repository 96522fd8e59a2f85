"""Conservative DPO: labels that are wrong at a known rate, the same for all or each pair's own."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ...errors import FineTuneError, ShapeError
from .errors_of_pairs import PairErrors, PairLoss, require_number

__all__ = ["cdpo"]


def cdpo(errors: PairErrors, *, beta: float, flip_rate: float | Tensor = 0.1) -> PairLoss:
    """Return the cross-entropy against labels that are right with probability 1 - flip_rate.

        loss = -(1 - flip_rate) log sigmoid(margin) - flip_rate log sigmoid(-margin),   margin as in DPO

    It is smallest at margin = log((1 - flip_rate) / flip_rate), so no pair is pushed without end. With each pair's own
    probability that its label is mistaken, one of which nobody knows is pulled to no side, and one that is mistaken for
    sure is learned turned over.

    Args:
        errors: (B,) each, with the reference's.
        beta: > 0, as for `dpo`.
        flip_rate: in [0, 0.5) for all; 0 is DPO. Or (B,), each in [0, 1].

    Raises:
        FineTuneError, ShapeError: the flip rate is not like that.

    Source: Mitchell 2023, "A note on DPO with noisy preferences and relationship to IPO". Differs: rates of
    their own.
    """
    margin = errors.log_odds(beta)
    if isinstance(flip_rate, Tensor):
        flip_rate = flip_rate.detach().to(margin)
        if flip_rate.shape != margin.shape:
            found, expected = tuple(flip_rate.shape), tuple(margin.shape)
            raise ShapeError(f"Cannot compute this loss: flip rates of shape {found}; expected {expected}.")
        if not bool(torch.all((flip_rate >= 0.0) & (flip_rate <= 1.0))):
            raise FineTuneError("Cannot compute this loss: found a flip rate outside [0, 1]; expected probabilities.")
    else:
        require_number("flip_rate", flip_rate, least=0.0, below=0.5)
    loss = -(1.0 - flip_rate) * F.logsigmoid(margin) - flip_rate * F.logsigmoid(-margin)
    return PairLoss(loss, margin)
