"""One person's taste: learned from comparisons, with what is still unknown about it, and which pair to ask next."""

from __future__ import annotations

from .agreement import agreement
from .blend import blend_tastes
from .bradley_terry import BradleyTerry
from .pairs import STRATEGIES, choose_pair
from .person import Taste, fit_taste
from .report import LearningReport, learned_report
from .vocabulary import VOCABULARY
from .words import Word, WordEffect, words_of

__all__ = [
    "STRATEGIES",
    "VOCABULARY",
    "BradleyTerry",
    "LearningReport",
    "Taste",
    "Word",
    "WordEffect",
    "agreement",
    "blend_tastes",
    "choose_pair",
    "fit_taste",
    "learned_report",
    "words_of",
]
