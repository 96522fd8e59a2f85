"""Robust DPO: an unbiased estimate of what DPO would be with right labels."""

from __future__ import annotations

from torch.nn import functional as F

from .errors_of_pairs import PairErrors, PairLoss, require_number

__all__ = ["rdpo"]


def rdpo(errors: PairErrors, *, beta: float, flip_rate: float = 0.1, largest: float = 10.0) -> PairLoss:
    """Return DPO's loss as it would be, in the mean, if no label had been flipped.

        loss = [-(1 - flip_rate) log sigmoid(margin) + flip_rate log sigmoid(-margin)] / (1 - 2 flip_rate)

    It falls without end as the margin grows, so the margin is held within +-largest: there its gradient is zero.

    Args:
        errors: (B,) each, with the reference's.
        beta: > 0, as for `dpo`.
        flip_rate: in [0, 0.5); 0 is DPO.
        largest: > 0, in nats; infinity is the paper's formula.

    Source: Chowdhury, Kini & Natarajan 2024, arXiv:2403.00409. Differs: the margin is held.
    """
    require_number("flip_rate", flip_rate, least=0.0, below=0.5)
    margin = errors.log_odds(beta)
    held = margin.clamp(-largest, largest)
    loss = -(1.0 - flip_rate) * F.logsigmoid(held) + flip_rate * F.logsigmoid(-held)
    return PairLoss(loss / (1.0 - 2.0 * flip_rate), margin)
