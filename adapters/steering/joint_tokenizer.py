"""T5's tokenizer as a file, which no checkpoint has in it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..errors import SteeringError

__all__ = ["read_t5_tokenizer", "t5_tokenizer"]

_NAME, _FIRST = "tokenizer.json", ["<pad>", "</s>", "<unk>"]
_IN_COMFYUI = Path("comfy", "text_encoders", "t5_tokenizer", _NAME)
_WHERE = (
    "ComfyUI has one in comfy/text_encoders/t5_tokenizer, each diffusers repository of SD3 in tokenizer_3 and of Flux "
    "in tokenizer_2. Name it by --with."
)


def t5_tokenizer(file: Path | None, near: Iterable[Path], words: int) -> Path:
    """Return the file of T5's tokenizer.

    Args:
        file: That was named; None looks where there may be one.
        near: Files of the model: beside them, and in the ComfyUI in whose folders they are.
        words: How many this T5 knows.

    Raises:
        SteeringError: there is none, or it is something else.
    """
    if file is None:
        places = [place for path in near for place in _near(path)]
        file = next((place for place in places if place.is_file()), None)
        if file is None:
            raise SteeringError(f"Cannot load the model's T5: found no {_NAME} for it. {_WHERE}")
    if file.name == "spiece.model":
        beside = file.with_name(_NAME)
        if not beside.is_file():
            raise SteeringError(
                f"Cannot load the model's T5: found {file.name}, an older form of its tokenizer; expected {_NAME}. "
                f"{_WHERE}"
            )
        file = beside
    _require_t5(file, words)
    return file


def read_t5_tokenizer(file: Path) -> Any:
    """Load it as transformers' tokenizer."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_file=str(file), pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )


def _near(path: Path) -> list[Path]:
    comfyui = os.environ.get("COMFYUI_PATH", "").strip()
    roots = [*path.resolve().parents, *([Path(comfyui).expanduser()] if comfyui else [])]
    return [path.with_name(_NAME), *(root / _IN_COMFYUI for root in roots)]


def _require_t5(file: Path, words: int) -> None:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))["model"]
        pieces = [str(piece[0]) for piece in found["vocab"]] if found["type"] == "Unigram" else []
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        pieces = []
    if pieces[:3] != _FIRST or len(pieces) > words:
        what = f"has {len(pieces)} words" if pieces[:3] == _FIRST else "is no tokenizer of T5"
        raise SteeringError(
            f"Cannot load the model's T5: {file.name} in {file.parent} {what}; expected a {_NAME} that begins "
            f"with {', '.join(_FIRST)} and has at most {words} words. {_WHERE}"
        )
