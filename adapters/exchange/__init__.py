"""Answers in and out of other people's formats: folders, JSON lines, CSV, parquet; and tastes of other tools."""

from __future__ import annotations

from .exporting import EXPORTS, Exported, export_answers
from .foreign import Foreign, Lost
from .gradients import read_aesthetic_gradient
from .image_reward import ImageReward, load_image_reward
from .importing import NAMELESS, Imported, import_answers
from .judges import Contest, aesthetic_head, agreement_with_prompts, contest
from .picture_facts import PictureFacts, facts_of_picture
from .sources import read_source

__all__ = [
    "EXPORTS",
    "NAMELESS",
    "Contest",
    "Exported",
    "Foreign",
    "ImageReward",
    "Imported",
    "Lost",
    "PictureFacts",
    "aesthetic_head",
    "agreement_with_prompts",
    "contest",
    "export_answers",
    "facts_of_picture",
    "import_answers",
    "load_image_reward",
    "read_aesthetic_gradient",
    "read_source",
]
