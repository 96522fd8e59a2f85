"""What computes where nobody says so."""

from __future__ import annotations

__all__ = ["best_device", "training_device"]


def best_device() -> str:
    """Return what pictures are made on: "cuda", "mps" or "cpu", the first that this machine has."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def training_device() -> str:
    """Return what is trained on: "cuda" or "cpu"."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
