"""One person's taste: learned from comparisons, with what is still unknown about it, and which pair to ask next."""

from __future__ import annotations

from .agreement import agreement
from .blend import blend_tastes
from .bradley_terry import BradleyTerry
from .ceiling import pair_to_repeat
from .diversity import diversity
from .kept_words import count_kept_words, keep_words, kept_words
from .map import strip, taste_map
from .pairs import STRATEGIES, choose_pair
from .person import Taste, fit_taste
from .report import LearningReport, learned_report, measured_taste
from .second_look import FIRST_SLIPS, MOST_SLIPS, Suspect, look_again, second_look, unsettled
from .sets import choose_set
from .shares import Accuracy
from .vocabulary import VOCABULARY
from .wording import MOST_WORDS, Worded, prompt_in_words, sentence_vectors
from .words import Word, WordEffect, words_of
from .worth_asking import worth_asking

__all__ = [
    "FIRST_SLIPS",
    "MOST_SLIPS",
    "MOST_WORDS",
    "STRATEGIES",
    "VOCABULARY",
    "Accuracy",
    "BradleyTerry",
    "LearningReport",
    "Suspect",
    "Taste",
    "Word",
    "WordEffect",
    "Worded",
    "agreement",
    "blend_tastes",
    "choose_pair",
    "choose_set",
    "count_kept_words",
    "diversity",
    "fit_taste",
    "keep_words",
    "kept_words",
    "learned_report",
    "look_again",
    "measured_taste",
    "pair_to_repeat",
    "prompt_in_words",
    "second_look",
    "sentence_vectors",
    "strip",
    "taste_map",
    "unsettled",
    "words_of",
    "worth_asking",
]
