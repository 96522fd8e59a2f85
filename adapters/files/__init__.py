"""What Palate writes to share: small safetensors files that say what they fit, and refuse what they don't."""

from __future__ import annotations

from .brought import MOST_BYTES, bring_taste, bring_user, is_user, place_taste
from .embedding_file import check_embedding_name, embedding_name, load_embedding, require_replaceable, save_embedding
from .picture import carried, carry
from .ppd_file import PPDFile, describe_ppd, load_ppd, save_ppd
from .taste_file import describe, load_taste, save_taste
from .taste_picture import save_taste_picture, taste_picture
from .taste_said import TasteFile
from .user_file import UserFile, describe_user, load_user, save_user

__all__ = [
    "MOST_BYTES",
    "PPDFile",
    "TasteFile",
    "UserFile",
    "bring_taste",
    "bring_user",
    "carried",
    "carry",
    "check_embedding_name",
    "describe",
    "describe_ppd",
    "describe_user",
    "embedding_name",
    "is_user",
    "load_embedding",
    "load_ppd",
    "load_taste",
    "load_user",
    "place_taste",
    "require_replaceable",
    "save_embedding",
    "save_ppd",
    "save_taste",
    "save_taste_picture",
    "save_user",
    "taste_picture",
]
