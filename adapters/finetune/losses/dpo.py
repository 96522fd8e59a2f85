"""Diffusion-DPO."""

from __future__ import annotations

from torch.nn import functional as F

from .errors_of_pairs import PairErrors, PairLoss

__all__ = ["dpo"]


def dpo(errors: PairErrors, *, beta: float) -> PairLoss:
    """Return -log sigmoid(margin) with margin = beta / 2 * (improvement on chosen - improvement on rejected).

    Args:
        errors: (B,) each, with the reference's.
        beta: > 0, pull to the reference. 2000 for SD1.5 and 5000 for SDXL in the paper; diffusers' SD1.5 script leaves
            the half out, its 2500 is 5000 here.

    Source: Wallace et al. 2023, Diffusion-DPO, arXiv:2311.12908, equation 14, T * omega folded into beta.
    """
    margin = errors.log_odds(beta)
    return PairLoss(-F.logsigmoid(margin), margin)
