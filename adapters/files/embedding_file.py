"""A portable embedding as a file that ComfyUI, Forge, A1111 and diffusers load.

One text encoder (SD1.x, SD2.x):  one tensor (n, H) float32, whose name is the file's without its ending
SDXL:                             "clip_l" (n, 768) and "clip_g" (n, 1280)

Nothing else may be in it: a second tensor would break the rule of Forge and diffusers. What Palate knows of it is text
in the metadata, which they pass over: format, version, base, person, answers, created, encoders, effect.

Shapes: n vectors, H width of a text encoder.
"""

from __future__ import annotations

import json
import math
import re
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import FileFormatError, ShapeError, StoreError
from ..places import safe_name, typed_path
from ..steering.portable import MOST_VECTORS, PortableEmbedding
from .container import read_bytes, read_metadata, read_tensors
from .words_of_clip import is_word
from .writing import write_atomically

__all__ = ["check_embedding_name", "embedding_name", "load_embedding", "require_replaceable", "save_embedding"]

FORMAT = "palate.embedding"
VERSION = 1
ENDING = ".safetensors"
_WHAT = "an embedding (textual inversion) in safetensors"
_TOWERS = {"clip_l", "clip_g"}
_MOST_FOREIGN = 75  # vectors; more than fit into a prompt


def check_embedding_name(name: str) -> str:
    """Return the name, if every host takes it as the word for an embedding.

    diffusers refuses a word that CLIP knows, ComfyUI ends a name at the first blank, and A1111 and Forge find it by
    its letters in the prompt: so a name is 2 to 60 lower-case letters, digits, "-" and "_", and no word of CLIP's.

    Raises:
        FileFormatError: it is none; the message says one that would do.
    """
    found = _fault(name)
    if found is None:
        return name
    raise FileFormatError(
        f"Cannot name an embedding {name[:60]!r}: {found}; expected lower-case letters, digits, - and _, and no word "
        f"of the language. Call it {embedding_name(name)!r}."
    )


def embedding_name(text: str) -> str:
    """Return a name like this text, such as a person's, that every host takes."""
    start = re.sub(r"[^a-z0-9]+", "-", text.lower()[:40]).strip("-")
    return next((name for name in (text, start, f"{start}-taste") if _fault(name) is None), "my-taste")


def save_embedding(embedding: PortableEmbedding, path: str | PathLike[str], private: bool = False) -> Path:
    """Write an embedding; the same one gives the same bytes.

    Args:
        embedding: From `train_embedding`.
        path: Of the file; its name without the ending is the word for prompts. Folders are made. An embedding that
            Palate made of the same person is replaced in one step.
        private: Leave out whose taste it is.

    Raises:
        FileFormatError: the name can't be used (`check_embedding_name`).
        ShapeError: it holds NaN, or vectors that no host takes.
        StoreError: a file of this name is somebody else's, or the folder can't be written; nothing is left behind.
    """
    file = typed_path(path)
    if not file.name.endswith(ENDING):
        file = file.with_name(file.name + ENDING)
    name = check_embedding_name(file.name.removesuffix(ENDING))
    tensors = _tensors(embedding, name)
    person = "" if private else embedding.person
    require_replaceable(file, person)
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "base": embedding.base,
        "person": person,
        "answers": str(embedding.answers),
        "created": embedding.created,
        "encoders": json.dumps(dict(embedding.encoders), sort_keys=True),
        "effect": json.dumps({key: round(float(value), 4) for key, value in embedding.effect.items()}, sort_keys=True),
    }
    return write_atomically(file, tensors, metadata)


def load_embedding(path: str | PathLike[str]) -> PortableEmbedding:
    """Read an embedding, Palate's own or any other textual inversion in safetensors.

    Returns:
        Its vectors (n, H) float32 by text encoder, "clip_l" and for SDXL "clip_g", and what it says of itself.

    Raises:
        FileFormatError: no such file, no embedding, a pickle, from a newer Palate, cut off, with NaN, or too large.
    """
    file = typed_path(path)
    data = read_bytes(file, _WHAT)
    metadata = read_metadata(file.name, data, _WHAT)
    if metadata.get("format", FORMAT) != FORMAT and metadata["format"].startswith("palate."):
        raise FileFormatError(f"Cannot read {file.name!r}: it is a {metadata['format']!r}; expected {_WHAT}.")
    own = metadata.get("format") == FORMAT
    if own and metadata.get("version") != str(VERSION):
        found = metadata.get("version", "none")[:20]
        raise FileFormatError(f"Cannot read {file.name!r}: format {found}; expected {VERSION}. Update Palate.")
    vectors = _vectors(file.name, read_tensors(file.name, data, _WHAT))
    if not own:
        return PortableEmbedding(vectors, base=_family(vectors))
    return PortableEmbedding(
        vectors,
        person=metadata.get("person", ""),
        base=metadata.get("base", ""),
        effect=_effect(file.name, metadata),
        encoders={k: str(v) for k, v in _object(file.name, metadata, "encoders").items()},
        answers=_answers(file.name, metadata),
        created=metadata.get("created", ""),
    )


def _tensors(embedding: PortableEmbedding, name: str) -> dict[str, Tensor]:
    plain = {key: value.detach().to("cpu", torch.float32).contiguous() for key, value in embedding.vectors.items()}
    if set(plain) not in ({"clip_l"}, _TOWERS):
        raise ShapeError(
            f"Cannot save the embedding: it is for {', '.join(plain) or 'nothing'}; expected clip_l, or both of SDXL's."
        )
    for key, value in plain.items():
        if value.ndim != 2 or not 1 <= len(value) <= MOST_VECTORS or len(value) != embedding.count:
            raise ShapeError(
                f"Cannot save the embedding: its {key} is {tuple(value.shape)}; expected (n, width) with 1 to "
                f"{MOST_VECTORS} vectors, as many for each text encoder."
            )
        if not bool(torch.isfinite(value).all()):
            raise ShapeError(f"Cannot save the embedding: its {key} holds NaN or infinity. Make it again.")
    return {name: plain["clip_l"]} if len(plain) == 1 else {key: plain[key] for key in sorted(plain, reverse=True)}


def require_replaceable(file: Path, person: str) -> None:
    """Refuse to write over what isn't an embedding that Palate made of the same person; ask before a long training.

    Raises:
        StoreError: a file of this name is somebody else's.
    """
    if not file.exists():
        return
    try:
        metadata = read_metadata(file.name, read_bytes(file, _WHAT), _WHAT)
    except FileFormatError:
        metadata = {}
    if metadata.get("format") == FORMAT and metadata.get("person", "") == person:
        return
    whose = "no embedding of Palate's" if metadata.get("format") != FORMAT else "another person's"
    raise StoreError(
        f"Cannot save {file.name!r} in {file.parent}: a file of this name is there and is {whose}; expected a free "
        "name. Choose another one."
    )


def _vectors(name: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    if set(tensors) >= _TOWERS:
        found = {key: tensors[key] for key in ("clip_l", "clip_g")}
    elif len(tensors) == 1:
        found = {"clip_l": next(iter(tensors.values()))}
    else:
        listed = ", ".join(sorted(tensors)[:4]) or "nothing"
        raise FileFormatError(
            f"Cannot read {name!r}: it holds {listed[:120]}; expected one tensor, or clip_l and clip_g: {_WHAT}."
        )
    vectors = {}
    for key, tensor in found.items():
        tensor = tensor[None] if tensor.ndim == 1 else tensor
        if tensor.ndim != 2 or not tensor.is_floating_point() or not 1 <= len(tensor) <= _MOST_FOREIGN:
            kind = str(tensor.dtype).removeprefix("torch.")
            raise FileFormatError(
                f"Cannot read {name!r}: its {key} is {kind} of shape {tuple(tensor.shape)}; expected (n, width) of at "
                f"most {_MOST_FOREIGN} vectors: {_WHAT}."
            )
        if not bool(torch.isfinite(tensor).all()):
            raise FileFormatError(f"Cannot read {name!r}: its {key} holds NaN or infinity. Get it again.")
        vectors[key] = tensor.float()
    if len({len(value) for value in vectors.values()}) > 1:
        raise FileFormatError(f"Cannot read {name!r}: it has not as many vectors for each text encoder. Get it again.")
    return vectors


def _family(vectors: dict[str, Tensor]) -> str:
    return "sdxl" if len(vectors) == 2 else {768: "sd15", 1024: "sd2"}.get(vectors["clip_l"].shape[1], "")


def _object(name: str, metadata: dict[str, str], key: str) -> dict[str, Any]:
    try:
        found = json.loads(metadata.get(key, "{}"))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise FileFormatError(f"Cannot read {name!r}: its {key!r} is broken. Get it again.")
    return found


def _effect(name: str, metadata: dict[str, str]) -> dict[str, float]:
    found = _object(name, metadata, "effect")
    if not all(isinstance(value, (int, float)) and math.isfinite(value) for value in found.values()):
        raise FileFormatError(f"Cannot read {name!r}: its 'effect' is no table of numbers. Get it again.")
    return {key: float(value) for key, value in found.items()}


def _answers(name: str, metadata: dict[str, str]) -> int:
    text = metadata.get("answers", "0")
    if not re.fullmatch(r"[0-9]{1,12}", text):
        raise FileFormatError(f"Cannot read {name!r}: its 'answers' are {text[:40]!r}; expected a number from 0.")
    return int(text)


def _fault(name: str) -> str | None:
    """What is wrong with a name, or None."""
    if not name.strip():
        return "the name is blank"
    if not re.fullmatch(r"(?=.*[a-z])[a-z0-9][a-z0-9_-]*[a-z0-9]", name) or safe_name(name) != name:
        return "that is no name that all tools can read"
    if name in _TOWERS:
        return "that is the name of a text encoder"
    return "that is a word that the text encoder knows already" if is_word(name) else None
