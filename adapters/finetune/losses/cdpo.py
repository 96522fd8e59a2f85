"""Conservative DPO: labels that are wrong at a known rate."""

from __future__ import annotations

from torch.nn import functional as F

from .errors_of_pairs import PairErrors, PairLoss, require_number

__all__ = ["cdpo"]


def cdpo(errors: PairErrors, *, beta: float, flip_rate: float = 0.1) -> PairLoss:
    """Return the cross-entropy against labels that are right with probability 1 - flip_rate.

        loss = -(1 - flip_rate) log sigmoid(margin) - flip_rate log sigmoid(-margin),   margin as in DPO

    It is smallest at margin = log((1 - flip_rate) / flip_rate), so no pair is pushed without end.

    Args:
        errors: (B,) each, with the reference's.
        beta: > 0, as for `dpo`.
        flip_rate: in [0, 0.5); 0 is DPO.

    Source: Mitchell 2023, "A note on DPO with noisy preferences and relationship to IPO".
    """
    require_number("flip_rate", flip_rate, least=0.0, below=0.5)
    margin = errors.log_odds(beta)
    loss = -(1.0 - flip_rate) * F.logsigmoid(margin) - flip_rate * F.logsigmoid(-margin)
    return PairLoss(loss, margin)
