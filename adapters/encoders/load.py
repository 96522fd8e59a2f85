"""Find a CLIP by what a person writes: a folder, a file, an open_clip model, a hub name, or "playground"."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import EncoderError, FileFormatError
from ..places import named_on_hub, not_there, typed_path
from ..untrusted import require_short_header, unpickled
from .encoder import ImageTextEncoder, Tokenize
from .facts import ClipFacts
from .layouts import FITTING_FILES, canonical_state

__all__ = ["load_encoder", "read_state"]

_TOKENIZER_FILES = ("tokenizer.json", "vocab.json")
_WHAT = "weights of a CLIP, tensors only"
_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")


def load_encoder(
    spec: str | Path, device: str | torch.device = "cpu", tokenizer: str | Path | None = None
) -> ImageTextEncoder:
    """Load an encoder.

    Args:
        spec: One of
            "playground" for the small one that Palate ships;
            a folder of a transformers CLIPModel, or of a diffusers pipeline with a `clip/` folder in it;
            a weights file with both towers in any layout (.safetensors; pickles only as far as
            `torch.load(weights_only=True)` reads them);
            "open_clip:ViT-L-14/openai", or "open_clip:ViT-L-14/path/to/file.safetensors";
            a name on the Hugging Face hub, such as "openai/clip-vit-large-patch14" (offline: from its cache).
        device: Where it computes.
        tokenizer: Folder of CLIP's tokenizer files for a weights file that has none beside it.

    Raises:
        EncoderError: nothing there, or it isn't a CLIP with an image tower.
    """
    text = str(spec)
    if text == "playground":
        from ..playground import playground_folder

        return _from_folder(Path(playground_folder()), "playground", device)
    if text.startswith("open_clip:"):
        return _from_open_clip(text.removeprefix("open_clip:"), device)
    path = typed_path(text)
    if os.path.isdir(path):
        return _from_folder(path, path.resolve().name, device)
    if os.path.isfile(path):
        tokenize = _tokenizer_in(path.parent) or (None if tokenizer is None else _tokenizer_in(Path(tokenizer)))
        return ImageTextEncoder(read_state(path), path.stem, _facts_beside(path.parent), tokenize, device)
    if path.suffix in _WEIGHT_SUFFIXES or not named_on_hub(text):
        raise EncoderError(f"Cannot load the encoder {path.name!r}: {not_there(text)}. {FITTING_FILES}.")
    return _from_hub(text, device)


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a weights file without ever running what's in it.

    Args:
        path: A `.safetensors`, else a pickle of tensors (`.bin`, `.pt`, `.ckpt`), whole in memory.

    Returns:
        Its tensors by name, on the CPU, as they are kept.

    Raises:
        EncoderError: unreadable, or a pickle with more than tensors in it.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            require_short_header(path, _WHAT)
            return dict(load_file(str(path)))
        loaded = unpickled(path, _WHAT)
    except FileFormatError as error:
        raise EncoderError(str(error)) from error
    except Exception as error:  # safetensors and the system raise their own kinds for a broken file
        raise EncoderError(
            f"Cannot load {path.name!r}: {error}; expected a weights file. Get the file again."
        ) from error
    inner = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else loaded
    if not isinstance(inner, dict):
        raise EncoderError(f"Cannot load {path.name!r}: found a {type(inner).__name__}; expected tensors by name.")
    return {str(name): value for name, value in inner.items() if isinstance(value, Tensor)}


def _from_folder(folder: Path, name: str, device: str | torch.device) -> ImageTextEncoder:
    inner = folder / "clip" if (folder / "clip").is_dir() else folder
    state = _folder_state(inner)
    if inner is not folder and (folder / "text_encoder").is_dir():
        # A pipeline stores its text tower once; clip/ holds the rest.
        state = canonical_state(_folder_state(folder / "text_encoder")) | canonical_state(state)
    tokenize = _tokenizer_in(inner) or _tokenizer_in(folder / "tokenizer")
    return ImageTextEncoder(state, name, _facts_beside(inner), tokenize, device)


def _folder_state(folder: Path) -> dict[str, Tensor]:
    files = sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("*.safetensors"))
    whole = [f for f in files if f.name == "model.safetensors"]
    files = whole or [f for f in files if ".fp16" not in f.name] or files
    files = files or sorted(folder.glob("pytorch_model*.bin"))
    if not files:
        raise EncoderError(f"Cannot load the encoder in {folder.name!r}: found no weights there. {FITTING_FILES}.")
    state: dict[str, Tensor] = {}
    for file in files:
        state |= read_state(file)
    return state


def _facts_beside(folder: Path) -> ClipFacts:
    config, look = _json(folder / "config.json"), _json(folder / "preprocessor_config.json")
    if "hidden_act" in config:  # one tower saved alone
        config = {"vision_config": config}
    if "vision_config" not in config and "text_config" not in config:
        return ClipFacts()
    try:
        return ClipFacts.from_config(config, look)
    except (AttributeError, TypeError, ValueError) as error:
        raise EncoderError(
            f"Cannot load the encoder in {folder.name!r}: its config.json or preprocessor_config.json is broken "
            f"({error}); expected a CLIP's. Get them again."
        ) from error


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _tokenizer_in(folder: Path) -> Tokenize | None:
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        return None
    loaded: list[Any] = []

    def tokenize(texts: list[str]) -> Tensor:
        if not loaded:
            from transformers import CLIPTokenizer

            loaded.append(CLIPTokenizer.from_pretrained(str(folder)))
        length = min(77, loaded[0].model_max_length)
        ids: Tensor = loaded[0](texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")[
            "input_ids"
        ]
        return ids

    return tokenize


def _from_open_clip(spec: str, device: str | torch.device) -> ImageTextEncoder:
    model_name, _, pretrained = spec.partition("/")
    try:
        import open_clip
    except ImportError as missing:
        raise EncoderError(
            f"Cannot load open_clip's {spec!r}: open_clip isn't installed; expected the package open_clip_torch. "
            "Run `python install.py panel`, or give a transformers folder."
        ) from missing
    config = open_clip.get_model_config(model_name)
    if config is None or not pretrained:
        raise EncoderError(
            f"Cannot load 'open_clip:{spec}': found no such model; expected open_clip:MODEL/TAG or /FILE. "
            "See open_clip.list_pretrained()."
        )
    vision, text = config.get("vision_cfg", {}), config.get("text_cfg", {})
    file = typed_path(pretrained)
    if local := os.path.isfile(file):
        state = read_state(file)
        quick, look = bool(config.get("quick_gelu")), {}
    elif file.suffix in _WEIGHT_SUFFIXES:
        raise EncoderError(f"Cannot load 'open_clip:{model_name}/{file.name}': no such file. Check its path.")
    else:
        settings = open_clip.get_pretrained_cfg(model_name, pretrained)
        if not settings:
            known = ", ".join(open_clip.list_pretrained_tags_by_model(model_name)) or "none"
            raise EncoderError(f"Cannot load 'open_clip:{spec}': unknown tag; expected one of: {known}.")
        quick = bool(settings.get("quick_gelu") or config.get("quick_gelu"))
        look = settings
        model = open_clip.create_model(model_name, pretrained=pretrained, force_quick_gelu=quick)
        state = dict(model.state_dict())
    width = int(vision.get("width", 768))
    facts = ClipFacts(
        activation="quick_gelu" if quick else "gelu",
        vision_heads=width // int(vision.get("head_width", 64)),
        text_heads=text.get("heads"),
        mean=tuple(look["mean"]) if look.get("mean") else None,
        std=tuple(look["std"]) if look.get("std") else None,
    )
    label = file.stem if local else pretrained
    return ImageTextEncoder(
        state, f"open_clip {model_name}/{label}", facts, open_clip.get_tokenizer(model_name), device
    )


def _from_hub(name: str, device: str | torch.device) -> ImageTextEncoder:
    try:
        from huggingface_hub import snapshot_download

        folder = Path(snapshot_download(name, allow_patterns=["*.json", "model*.safetensors", "merges.txt"]))
    except Exception as error:  # no network, no such name, no package: one answer for all
        raise EncoderError(
            f"Cannot load the encoder {name!r}: neither a file nor the hub has it ({error}). {FITTING_FILES}."
        ) from error
    return _from_folder(folder, name, device)
