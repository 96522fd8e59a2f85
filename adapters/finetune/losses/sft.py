"""Plain training on the chosen images."""

from __future__ import annotations

from .errors_of_pairs import PairErrors, PairLoss

__all__ = ["sft"]


def sft(errors: PairErrors, *, beta: float = 0.0) -> PairLoss:
    """Return the error on the chosen image; the rejected one is only looked at for the margin.

        loss = chosen,   margin = rejected - chosen

    Args:
        errors: (B,) each; no reference needed.
        beta: not used; every loss takes one.
    """
    chosen, rejected = errors.chosen.float(), errors.rejected.float()
    return PairLoss(chosen, rejected - chosen)
