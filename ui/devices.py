"""What computes where nobody says so, and whether what was named is there."""

from __future__ import annotations

import re

from ..adapters.errors import PreferenceError

__all__ = ["DeviceError", "best_device", "require_device", "training_device"]

_DEVICE = re.compile(r"cpu|cuda(?::(\d{1,3}))?|mps")


class DeviceError(PreferenceError, ValueError):
    """Something to compute on that this machine hasn't got."""


def require_device(name: str) -> None:
    """Refuse what can't compute here, in words and before anything is read or loaded.

    Args:
        name: As typed: cpu, cuda, cuda:1, mps.

    Raises:
        DeviceError: it is no such name, or this machine or this build of PyTorch hasn't got it.
    """
    told = _DEVICE.fullmatch(name)
    if told is None:
        raise DeviceError(f"Cannot compute on {name[:40]!r}: that is no device; expected cpu, cuda, cuda:1 or mps.")
    if name == "cpu":
        return
    import torch

    if name == "mps":
        if not torch.backends.mps.is_available():
            raise DeviceError("Cannot compute on 'mps': this is no Mac with a GPU; expected cpu or cuda.")
        return
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(told[1] or 0) < count:
        return
    if count:
        raise DeviceError(f"Cannot compute on {name!r}: it sees {count} here; expected 0 to {count - 1}.")
    raise DeviceError(
        f"Cannot compute on {name!r}: PyTorch {torch.__version__} sees no GPU of that kind here; expected its driver "
        "and a build of PyTorch with CUDA. Leave out --device, or give --device cpu."
    )


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
