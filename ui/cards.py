"""Any file that Palate writes, as a card: what it is, what it says of itself, and a drawing of its numbers."""

from __future__ import annotations

import base64
import json
import math
import os
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..adapters.errors import FileFormatError
from ..adapters.places import typed_path
from .drawings import bars, mark
from .taste_page import facts_of

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Card", "read_card"]

_KINDS = "a taste, a user, PPD weights, an embedding, a LoRA, or a picture of palate generate"
_PNG = b"\x89PNG\r\n\x1a\n"
_MAX_SAID = 1 << 20  # characters that a picture says of itself
_MOST = 8 << 30  # bytes; SDXL's PPD has 0.7 GB


@dataclass(frozen=True)
class Card:
    """What a file holds.

    Attributes:
        kind: "taste", "user", "ppd", "embedding", "lora" or "picture".
        title: Of the card.
        facts: What it says, as (what, told).
        told: The same for programs.
        drawing: HTML of what its numbers look like.
        note: What to do with it.
    """

    kind: str
    title: str
    facts: tuple[tuple[str, str], ...]
    told: dict[str, Any]
    drawing: str
    note: str


def read_card(path: str | PathLike[str]) -> Card:
    """Read a file that Palate wrote, whichever it is.

    Raises:
        FileFormatError: none of them, and what it is instead as far as that shows; or damaged.
    """
    from ..adapters.files.container import read_header

    file = typed_path(path)
    if not os.path.isfile(file):
        found = "it is a folder" if os.path.isdir(file) else "there is no such file"
        raise FileFormatError(f"Cannot show {file.name[:200]!r}: {found}; expected {_KINDS}.")
    try:
        with file.open("rb") as opened:
            start = opened.read(9)
    except OSError as error:
        raise FileFormatError(f"Cannot show {file.name[:200]!r}: {error.strerror}; expected {_KINDS}.") from error
    if start.startswith(_PNG):
        return _of_png(file)
    if start[8:9] != b"{":
        raise FileFormatError(f"Cannot show {file.name!r}: it is no file of Palate's; expected {_KINDS}.")
    said = read_header(file, _KINDS, _MOST)
    kind = said.metadata.get("format", "")
    if kind not in _READERS:
        from ..adapters.steering.checkpoint_kind import kind_of_weights

        newer = kind.startswith("palate.")
        found = f"format {kind[:40]!r}" if newer else kind_of_weights(said.shapes)
        more = " Update Palate." if newer else ""
        raise FileFormatError(f"Cannot show {file.name!r}: found {found}; expected {_KINDS}.{more}")
    return _READERS[kind](file)


def _of_taste(file: Path) -> Card:
    from ..adapters.files import describe, load_taste, taste_picture
    from .tastes import card_of

    taste, said = load_taste(file), describe(file)
    address = f"data:image/png;base64,{base64.b64encode(taste_picture(taste)).decode()}"
    return Card(
        "taste",
        f"A taste: {said.person}" if said.person else "A taste",
        tuple(facts_of(said)),
        card_of(file),
        f'<img src="{address}" alt="The taste\'s mark, and how good it is">',
        "Save the picture and drop it into Palate: the taste is inside.",
    )


def _of_user(file: Path) -> Card:
    from ..adapters.files import describe_user, load_user

    user, said = load_user(file), describe_user(file)
    return Card(
        "user",
        f"A user: {said.person}" if said.person else "A user",
        _known(
            ("Whose", said.person),
            ("Answers", str(said.pairs)),
            ("For", f"{said.base} models, with the PPD {said.ppd[:12]}"),
            ("Image encoder", _named(said.encoder_name, said.encoder)),
            ("Made", said.created),
            ("Inside", f"{said.tokens} tokens of {said.width} numbers; no pictures, no prompts"),
        ),
        asdict(said),
        mark(user.tokens.flatten()),
        "Use it with palate generate --user, in the panel, or in ComfyUI's Load User.",
    )


def _of_ppd(file: Path) -> Card:
    from ..adapters.files import describe_ppd, load_ppd

    said = describe_ppd(file)
    values = load_ppd(file).attention.values
    strengths = [float(value.weight.detach().norm()) for value in values]  # type: ignore[union-attr,operator]
    told = asdict(said) | {"layers": [layer.name for layer in said.layers], "strengths": strengths}
    return Card(
        "ppd",
        f"PPD weights: {said.name}" if said.name else "PPD weights",
        _known(
            ("For", f"{said.base} models"),
            ("Image encoder", _named(said.image_encoder_name, said.image_encoder)),
            ("User encoder", said.kind or "none"),
            ("Layers", f"{len(said.layers)}, for tokens of {said.width} numbers"),
            ("Identity", said.identity[:12]),
            ("Made", said.created),
            ("Size", _size(said.size)),
        ),
        told,
        bars(strengths, "How strong the users' values are, layer by layer; 0 does nothing"),
        "Put it into PALATE_HOME/ppd, or ComfyUI's models/model_patches.",
    )


def _of_embedding(file: Path) -> Card:
    import torch

    from ..adapters.files import load_embedding

    said = load_embedding(file)
    effect, name = dict(said.effect), file.name.removesuffix(".safetensors")
    turned = f"{effect['degrees']:.0f} degrees along the taste" if "degrees" in effect else ""
    kept = f"{100 * effect['kept']:.0f} % of what a prompt says" if "kept" in effect else ""
    told = {key: getattr(said, key) for key in ("person", "base", "answers", "created")}
    told |= {"vectors": said.count, "towers": sorted(said.vectors), "effect": effect, "encoders": dict(said.encoders)}
    return Card(
        "embedding",
        f"An embedding: {name}",
        _known(
            ("Whose", said.person),
            ("Answers", str(said.answers or "")),
            ("For", f"{said.base} models" if said.base else ""),
            ("Turns a prompt", turned),
            ("Keeps", kept),
            ("Made", said.created),
            ("Inside", f"{said.count} vectors for {' and '.join(sorted(said.vectors))}"),
        ),
        told,
        mark(torch.cat([vector.flatten() for vector in said.vectors.values()])),
        f"Write at the end of a prompt: embedding:{name} (ComfyUI) or {name} (Forge, A1111).",
    )


def _of_lora(file: Path) -> Card:
    from ..adapters.files.lora_file import halves_of, layers_in, load_lora_file

    tensors, said = load_lora_file(file)
    layers = sorted(layers_in(tensors))
    halves = [halves_of(tensors, name) for name in layers]
    strengths = [0.0 if one is None else _product(one.down, one.up) for one in halves]
    if broken := [name for name, strength in zip(layers, strengths, strict=True) if not math.isfinite(strength)]:
        raise FileFormatError(
            f"Cannot show {file.name!r}: found numbers that are not finite in {broken[0][:120]!r}; expected a LoRA "
            "that came out well. Train it again, or ask for another one."
        )
    about = {key.removeprefix("palate."): value for key, value in said.items() if key.startswith("palate.")}
    right = about.get("held_out_accuracy", "")
    rank = said.get("ss_network_dim", "?")[:9]
    return Card(
        "lora",
        f"A LoRA: {said.get('modelspec.title', file.stem)}",
        _known(
            ("Whose", about.get("person", "")),
            ("Pairs", about.get("pairs", "")),
            ("Left out as doubted", about.get("dropped", "")),
            ("Loss", ", ".join([*re.findall(r"'(\w+)'", about.get("stages", "")), about.get("loss", "")])),
            ("Unseen pairs right", f"{100 * float(right):.0f} %" if _number(right) else ""),
            ("For", f"{said.get('modelspec.architecture', '')} ({about.get('model', 'model not named')})"),
            ("Made", said.get("modelspec.date", "")),
            ("Inside", f"{len(layers)} layers of rank {rank}, {_size(file.stat().st_size)}"),
            ("In words", said.get("modelspec.description", "")),
        ),
        {"layers": len(layers), "rank": rank, "strengths": dict(zip(layers, strengths, strict=True)), "said": said},
        bars(strengths, "How much it changes each layer"),
        "ComfyUI: models/loras and Load LoRA. A1111 and Forge: models/Lora.",
    )


def _of_png(file: Path) -> Card:
    """A taste in a picture, or a picture that says what it was made with."""
    from ..adapters.exchange import facts_of_picture
    from ..adapters.files.picture import carries

    data = file.read_bytes()
    if carries(data):
        return _of_taste(file)
    said = facts_of_picture(file)
    if not said.prompt:
        raise FileFormatError(
            f"Cannot show {file.name!r}: it is a picture that carries nothing; expected {_KINDS}. A service that it "
            "passed may have taken it out: ask for the original file."
        )
    address = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    seed = "" if said.seed is None else str(said.seed)
    about = (("Prompt", said.prompt), ("Negative", said.negative), ("Seed", seed), ("Model", said.model))
    facts = _known(*about, *_for_whom(file))
    return Card("picture", "A picture", facts, asdict(said), f'<img src="{address}" alt="">', "")


def _for_whom(file: Path) -> tuple[tuple[str, str], ...]:
    """Whose tastes and users a picture was made along, where Palate wrote it; of broken ones nothing."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            made = json.loads(str(image.info.get("palate", "{}"))[:_MAX_SAID])
        found = []
        for title, parts, strength in (("Tastes", "tastes", "strength"), ("Users", "users", "user_strength")):
            told = " + ".join(f"{float(weight):g} {str(name)[:80]}".strip() for name, weight in made.get(parts, []))
            if told and float(made[strength]):  # the tastes of a user's picture only chose among several
                found.append((title, f"{told}, at strength {float(made[strength]):g}"))
            elif told:
                found.append((title, f"{told}, to choose the words and the best"))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError):
        return ()
    return tuple(found)


_READERS: dict[str, Callable[[Path], Card]] = {
    "palate.taste": _of_taste,
    "palate.user": _of_user,
    "palate.ppd": _of_ppd,
    "palate.embedding": _of_embedding,
    "palate.lora": _of_lora,
}


def _known(*facts: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((name, told) for name, told in facts if told)


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} KB"


def _named(name: str, identity: str) -> str:
    return f"{name} ({identity[:12]})" if name and identity else name or identity[:12]


def _number(text: str) -> bool:
    try:
        return 0.0 <= float(text) <= 1.0
    except ValueError:
        return False


def _product(down: Tensor, up: Tensor) -> float:
    """Frobenius norm of up @ down, by way of the two small squares."""
    if up.shape[1] != down.shape[0]:
        return 0.0
    left, right = up.float().flatten(1), down.float().flatten(1)
    square = ((left.T @ left) * (right @ right.T)).sum()
    return float(square.clamp_min(0.0).sqrt())
