"""What Palate writes to share: small safetensors files that say what they fit, and refuse what they don't."""

from __future__ import annotations

from .embedding_file import check_embedding_name, embedding_name, load_embedding, require_replaceable, save_embedding
from .picture import carried, carry
from .taste_file import TasteFile, describe, load_taste, save_taste
from .taste_picture import save_taste_picture, taste_picture

__all__ = [
    "TasteFile",
    "carried",
    "carry",
    "check_embedding_name",
    "describe",
    "embedding_name",
    "load_embedding",
    "load_taste",
    "require_replaceable",
    "save_embedding",
    "save_taste",
    "save_taste_picture",
    "taste_picture",
]
