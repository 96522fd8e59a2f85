"""How much each answer is to be doubted before anything is trained: what a taste learned from all the others says.

Adaptive-DPO asks the denoiser itself and its own past, at one noise and one timestep, which say little about one pair,
and to whom an answer that they are steadily against looks sure. A Bradley-Terry taste on the pictures' vectors sees
each pair whole, costs milliseconds, and can leave the answer out that it is asked about.

Shapes: N answers, D width of the vectors.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..taste import BradleyTerry
from ..taste.arrays import Matrix, to_array
from ..taste.prior import evidence_prior_variance
from ..taste.second_look import left_out

__all__ = ["doubts_of", "is_doubted"]

MISTAKEN = 0.3  # share of the answers that is mistaken at worst; with fewer, few are doubted much (study `flips`)
MANY = 100  # answers from which on a taste of all others is believed where it is only just against one
SHARPER = 2.0  # a taste that learned mistaken answers, too, is less sure than its sides are right


def doubts_of(chosen: Matrix, rejected: Matrix) -> Tensor:
    """Return how probable it is that each answer is mistaken, (N,) in [0, 1], as `cdpo` takes it.

    With z the log-odds of the answer by the taste of all others, and e the share of mistakes reckoned with,

        doubt = 1 - sigmoid(SHARPER z + log((1 - e) / e))

    The share could be estimated by EM (`second_look` does), but mistaken answers make the taste itself so unsure that
    hardly any is found: 4 % of 20. A fixed share does better there; what it costs on clean answers was not measured.

    Args:
        chosen, rejected: (N, D) vectors of the pictures.
    """
    sides = (to_array(name, values) for name, values in (("chosen", chosen), ("rejected", rejected)))
    first, second = (side.astype(np.float64) for side in sides)
    model = BradleyTerry(evidence_prior_variance(first, second)).fit(first, second)
    by_others = np.clip(left_out(model, first - second), 1e-9, 1.0 - 1e-9)
    log_odds = SHARPER * np.log(by_others / (1.0 - by_others)) + np.log((1.0 - MISTAKEN) / MISTAKEN)
    return torch.from_numpy(1.0 / (1.0 + np.exp(log_odds))).float()


def is_doubted(doubts: Matrix) -> npt.NDArray[np.bool_]:
    """(N,) which answers `drop_doubted` leaves out.

    Of MANY answers, those that a taste of all others would have given the other way: their doubt is above the share of
    mistakes that is reckoned with. Of 400 with 30 % turned over, 17 % of what is kept is then mistaken, where a doubt
    above a half, asked for as of few, leaves 31 %. Of 20 it would be a third of all, for hardly fewer mistakes among
    the others: a taste of few answers is against many by chance (`flips`' utilities, seeds 100 to 123).
    """
    found = np.asarray(doubts)
    return found > (MISTAKEN if len(found) >= MANY else 0.5)
