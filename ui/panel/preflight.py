"""What `palate panel` looks at before it opens: a wrong path is told at once, and nothing heavy is loaded for it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from ...adapters.errors import EncoderError, SteeringError
from ...adapters.places import typed_path

__all__ = ["FITTING", "check_start", "fitting_encoders"]

FITTING = {
    "sd15": ("open_clip:ViT-L-14/openai",),
    "sdxl": ("open_clip:ViT-L-14/openai", "open_clip:ViT-bigG-14/laion2b_s39b_b160k"),
}
DEVICES = ("cpu", "cuda", "mps")


def check_start(model: str, encoders: Sequence[str] = (), device: str | None = None) -> str:
    """Look at what was asked for, without loading it.

    Args:
        model: As `--model`.
        encoders: As `--encoder`.
        device: As `--device`.

    Returns:
        One line of advice, "" when there is none.

    Raises:
        SteeringError: there is no such model, it is something else, or this machine has no such device.
        EncoderError: an encoder's path leads nowhere.
    """
    _check_device(device)
    for spec in encoders:
        _check_encoder(spec)
    family = _family(model)
    if encoders or family is None or (typed_path(model) / "clip").is_dir():
        return ""
    options = " ".join(f"--encoder {spec}" for spec in FITTING[family])
    which = "Stable Diffusion 1.5" if family == "sd15" else "SDXL (one of the two is enough)"
    return f"Pictures can be compared, but nothing is learned without an encoder. For {which}, add {options}"


def fitting_encoders(model: str) -> str:
    """Return the encoders that suit a model, for a message; those of both families where the family is unknown."""
    try:
        family = _family(model)
    except SteeringError:
        family = None
    if family is None:
        return f"For SD1.5 it is {FITTING['sd15'][0]}, for SDXL that or {FITTING['sdxl'][1]}."
    return f"For this model it is {' or '.join(FITTING[family])}."


def _family(model: str) -> str | None:
    """ "sd15" or "sdxl"; None for the playground, and for what only loading will tell."""
    if model == "playground":
        return None
    path = typed_path(model)
    if os.path.isfile(path):
        from ...adapters.steering.checkpoint_kind import checkpoint_family, read_shapes

        return checkpoint_family(path, read_shapes(path))
    if os.path.isdir(path):
        return _family_of_folder(path)
    if model.count("/") == 1 and not model.startswith((".", "/", "~")) and path.suffix != ".safetensors":
        return None  # a name on the hub
    raise SteeringError(
        f"Cannot open the panel with the model {model!r}: no such file or folder; expected a diffusers folder, a "
        "single-file checkpoint (.safetensors), or 'playground'. Check the path."
    )


def _family_of_folder(folder: Path) -> str | None:
    from ...adapters.steering.joint import is_joint

    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
        kind = str(index["_class_name"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SteeringError(
            f"Cannot open the panel with the model {folder.name!r}: the folder has no readable model_index.json; "
            "expected a diffusers pipeline. Give the folder that holds unet, vae and text_encoder."
        ) from error
    if is_joint(kind):
        raise SteeringError(
            f"Cannot open the panel with the model {folder.name!r}: found a {kind}, which it can't paint with yet; "
            "expected Stable Diffusion 1.5, 2.1 or XL. Open it with one of these, or with 'playground', to compare "
            f"pictures; a LoRA for this one is trained on the same answers by `palate train lora --model {folder}`."
        )
    return "sdxl" if "XL" in kind else "sd15" if kind.startswith("StableDiffusion") else None


def _check_encoder(spec: str) -> None:
    text = spec.removeprefix("open_clip:")
    path = typed_path(text)
    weights = path.suffix in (".safetensors", ".bin", ".pt", ".ckpt")
    a_name = text.count("/") == 1 and not text.startswith((".", "/", "~")) and not weights  # as `load_encoder` reads it
    if spec.startswith("open_clip:") or spec == "playground" or os.path.exists(path) or a_name:
        return  # names are for the loader to judge
    raise EncoderError(
        f"Cannot open the panel with the encoder {spec!r}: no such file or folder; expected a CLIP. Check the path, or "
        f"give a name such as {FITTING['sd15'][0]}."
    )


def _check_device(device: str | None) -> None:
    if device is None:
        return
    kind = device.split(":")[0]
    if kind in DEVICES:
        import torch

        there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        number = device.partition(":")[2]
        count = torch.cuda.device_count() if kind == "cuda" else 1
        if there[kind] and (not number or (number.isdecimal() and int(number) < count)):
            return
    raise SteeringError(
        f"Cannot open the panel on {device!r}: this machine has no such device; expected one of "
        f"{', '.join(DEVICES)}. Leave --device out for the best there is."
    )
