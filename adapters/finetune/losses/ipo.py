"""IPO: a target for the margin instead of "as large as possible"."""

from __future__ import annotations

from .errors_of_pairs import PairErrors, PairLoss, require_number

__all__ = ["ipo"]


def ipo(errors: PairErrors, *, beta: float) -> PairLoss:
    """Return (r - 1 / (2 beta))^2 with r = improvement on chosen - improvement on rejected, in units of the errors.

    Args:
        errors: (B,) each, with the reference's.
        beta: > 0. The target of r, 1 / (2 beta), is 1e-4 at 5000; the margin is r itself.

    Source: Azar et al. 2023, arXiv:2310.12036, with diffusion's r as in diffusers' Diffusion-DPO script.
    """
    require_number("beta", beta, above=0.0)
    chosen, rejected = errors.improvement()
    margin = chosen - rejected
    return PairLoss((margin - 0.5 / beta) ** 2, margin)
