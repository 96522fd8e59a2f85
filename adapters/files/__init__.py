"""What Palate writes to share: small safetensors files that say what they fit, and refuse what they don't."""

from __future__ import annotations

from .taste_file import TasteFile, describe, load_taste, save_taste

__all__ = ["TasteFile", "describe", "load_taste", "save_taste"]
