"""One person's taste: learned from comparisons, with what is still unknown about it, and which pair to ask next."""

from __future__ import annotations

from .blend import blend_tastes
from .bradley_terry import BradleyTerry
from .pairs import STRATEGIES, choose_pair
from .person import Taste, fit_taste
from .report import LearningReport, learned_report

__all__ = [
    "STRATEGIES",
    "BradleyTerry",
    "LearningReport",
    "Taste",
    "blend_tastes",
    "choose_pair",
    "fit_taste",
    "learned_report",
]
