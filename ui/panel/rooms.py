"""What Taste, Generate and Share work with, for as long as a panel runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...adapters.places import palate_home
from .blends import Blends
from .choices import Choices
from .easel import Easel
from .embeddings import Embeddings
from .gallery import Gallery
from .jobs import Jobs
from .liked_words import LikedWords
from .taste_learned import Looks
from .taste_pages import Pages
from .taste_painted import Painted
from .taste_thumbs import Thumbs
from .tastes import TasteFiles, UserFiles
from .trainings import Trainings

if TYPE_CHECKING:
    from .studio import Studio

__all__ = ["Rooms"]


class Rooms:
    """What was learned, tastes on file, their blends, the easel, the gallery, and what runs in the background.

    Args:
        studio: Store, model and encoder.

    Attributes:
        files, users, blends, words, gallery, easel, embeddings, choices, jobs, painted, looks, pages, thumbs,
            trainings: See their modules.

    Raises:
        StoreError: Palate's folder can't be written.
    """

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.files = TasteFiles(studio)
        self.users = UserFiles(studio)
        self.blends = Blends(studio, self.files)
        self.words = LikedWords(studio, self.blends)
        self.gallery = Gallery(palate_home() / "gallery")
        self.easel = Easel(studio, self.blends, self.users, self.words, self.gallery)
        self.embeddings = Embeddings(studio, self.blends)
        self.choices = Choices(studio, self.gallery)
        self.jobs = Jobs(studio.closing)
        self.painted = Painted(studio, self.gallery, self.easel)
        self.looks = Looks(studio, self.painted.of)
        self.pages = Pages(studio, self.looks)
        self.thumbs = Thumbs(studio.store)
        self.trainings = Trainings(studio, self.jobs)
