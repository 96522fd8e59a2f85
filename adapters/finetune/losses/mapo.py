"""MaPO: preferences without a reference model."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ...errors import FineTuneError
from ..names import MAPO_VARIANTS
from .errors_of_pairs import PairErrors, PairLoss, require_number

__all__ = ["mapo"]

SNR = 0.5  # the released code's scale of an error before the link
TIMESTEPS = 1000.0  # and of the logit after it


def mapo(errors: PairErrors, *, beta: float, variant: str = "code") -> PairLoss:
    """Return the error on the chosen image plus a pull that makes it smaller than the rejected one's.

    With link(error) = error / (exp(error) - 1), which falls from 1 at no error towards 0:

        code             chosen - beta log sigmoid(1000 [link(chosen / 2) - link(rejected / 2)])
        paper_exponent   chosen - 1 / beta log sigmoid(link(chosen)^beta - link(rejected)^beta)
        paper_prefactor  chosen - 1 / beta log sigmoid(beta link(chosen) - beta link(rejected))

    The three differ a lot: at errors of 0.12 the pull on the chosen error is 12 times that of plain training in the
    released code (beta = 0.1), 0.24 times with the prefactor, and almost none with the exponent at beta >= 64.

    Args:
        errors: (B,) each; no reference needed.
        beta: > 0. `code`: weight of the pull, 0.1 in the release. Others: 8 (general) to 1024 (personalisation); larger
            is closer to plain training.
        variant: one of `MAPO_VARIANTS`.

    Source: Hong et al. 2024, MaPO, arXiv:2406.06424, equations 9 to 11, which can be read in two ways, and the authors'
    code, which computes neither.
    """
    require_number("beta", beta, above=0.0)
    chosen, rejected = errors.chosen.float(), errors.rejected.float()
    if variant == "code":
        margin, weight = TIMESTEPS * (link(SNR * chosen) - link(SNR * rejected)), beta
    elif variant == "paper_exponent":
        margin, weight = link(chosen) ** beta - link(rejected) ** beta, 1.0 / beta
    elif variant == "paper_prefactor":
        margin, weight = beta * (link(chosen) - link(rejected)), 1.0 / beta
    else:
        raise FineTuneError(f"Cannot compute MaPO: variant {variant!r}; expected one of {', '.join(MAPO_VARIANTS)}.")
    return PairLoss(chosen - weight * F.logsigmoid(margin), margin)


def link(error: Tensor) -> Tensor:
    """error / (exp(error) - 1) for errors >= 0; 1 at 0. Exact to float32 for small ones, where digits would cancel."""
    small = error < 1e-4
    safe = torch.where(small, torch.ones_like(error), error)
    return torch.where(small, 1.0 - error / 2.0 + error * error / 12.0, safe / torch.expm1(safe))
