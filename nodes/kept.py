"""What was made of the last texts, so that another strength needs no gradients again.

Kept by text encoder for as long as the host keeps that one, and by everything that the result hangs on: the text's
tokens and weights, the tastes, the settings, the layer, and the encoder's weights at that moment. Those are known by
two things: ComfyUI's own mark of what is patched in (`current_weight_patches_uuid`, new with every LoRA), and by some
numbers out of every tensor, because hooks and other packs change weights without a new mark. A low-rank change reaches
nearly every number of a tensor, so a few of each are enough.
"""

from __future__ import annotations

import hashlib
import threading
import weakref
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, Generic, TypeVar

import torch

__all__ = ["Kept", "text_mark", "weights_mark"]

_T = TypeVar("_T")
_TEXTS, _BYTES = 16, 128 << 20  # of each text encoder; one chunk of 77 tokens of SDXL takes 2.5 MB
_SAMPLES = 64  # numbers out of each tensor


class Kept(Generic[_T]):
    """The last results by owner and key; an owner that is gone takes its results along. Safe from any thread."""

    def __init__(self, most: int = _TEXTS, most_bytes: int = _BYTES) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._owners: weakref.WeakKeyDictionary[Any, OrderedDict[Hashable, tuple[_T, int]]] = (
            weakref.WeakKeyDictionary()
        )
        self._lock = threading.Lock()

    def __len__(self) -> int:
        with self._lock:
            return sum(len(mine) for mine in self._owners.values())

    def get(self, owner: Any, key: Hashable) -> _T | None:
        """What was kept, or None."""
        with self._lock:
            mine = self._owners.get(owner)
            if mine is None or key not in mine:
                return None
            mine.move_to_end(key)
            return mine[key][0]

    def put(self, owner: Any, key: Hashable, value: _T, size: int) -> None:
        """Keep a value of `size` bytes; the ones not asked for longest make room. One too large isn't kept."""
        with self._lock:
            mine = self._owners.setdefault(owner, OrderedDict())
            mine[key] = value, size
            mine.move_to_end(key)
            while len(mine) > self._most or sum(one for _, one in mine.values()) > self._most_bytes:
                mine.popitem(last=False)


def weights_mark(model: Any, parts: Iterable[torch.nn.Module]) -> tuple[str, str]:
    """What weights a text encoder has now: the host's mark of its patches, and a hash of some of its numbers."""
    digest = hashlib.sha256()
    for part in parts:
        for weight in part.state_dict().values():
            digest.update(_bits(_some(weight)))
    return str(getattr(model, "current_weight_patches_uuid", None)), digest.hexdigest()


def text_mark(tokens: Mapping[str, Any]) -> str:
    """Hash of the host's weighted tokens, textual inversions included."""
    digest = hashlib.sha256()
    for name, chunks in sorted(tokens.items()):
        digest.update(f"{name}:{len(chunks)}".encode())
        for chunk in chunks:
            for token, weight, *_ in chunk:
                if torch.is_tensor(token):
                    digest.update(f"vector {tuple(token.shape)}".encode())
                    digest.update(_bits(token))
                else:
                    digest.update(f"{token}".encode())
                digest.update(f" {weight!r},".encode())
    return digest.hexdigest()


def _bits(tensor: torch.Tensor) -> bytes:
    return tensor.detach().to("cpu", torch.float32).contiguous().numpy().tobytes()


def _some(weight: torch.Tensor) -> torch.Tensor:
    flat = weight.detach().reshape(-1)
    return flat[:: max(1, flat.numel() // _SAMPLES)][:_SAMPLES]
