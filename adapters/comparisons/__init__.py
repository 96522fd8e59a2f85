"""What people chose: comparisons, the pairs still to be decided, and the store that keeps them."""

from .comparison import OUTCOMES, Comparison, Offer
from .images import MAX_PIXELS, read_image
from .people import PersonAnswers
from .ranking import RANKING_OUTCOMES, Ranking
from .store import PreferenceStore

__all__ = [
    "MAX_PIXELS",
    "OUTCOMES",
    "RANKING_OUTCOMES",
    "Comparison",
    "Offer",
    "PersonAnswers",
    "PreferenceStore",
    "Ranking",
    "read_image",
]
