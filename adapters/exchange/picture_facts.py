"""What a generated picture says of itself: prompt, seed and model, as A1111, Forge and ComfyUI write them into it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

__all__ = ["PictureFacts", "facts_of_picture"]

MAX_TEXT = 1 << 20  # characters of one text chunk that are looked at
MAX_PROMPT = 20_000
_USER_COMMENT, _EXIF = 0x9286, 0x8769
_SEED = re.compile(r"\bSeed: (\d{1,20})")
_MODEL = re.compile(r'\bModel: ("(?:[^"\\]|\\.)*"|[^,\n]+)')
_TEXT_INPUTS = ("text", "text_g", "text_l", "prompt", "positive", "conditioning", "string", "value")
_DEPTH = 12  # nodes that are followed from a sampler back to a text


@dataclass(frozen=True)
class PictureFacts:
    """What is known of a picture; "" and None where it doesn't say."""

    prompt: str = ""
    negative: str = ""
    seed: int | None = None
    model: str = ""


def facts_of_picture(path: Path) -> PictureFacts:
    """Return what a picture file says of itself; a broken or silent one says nothing.

    Args:
        path: PNG (text chunks `parameters` or `prompt`), or JPEG and WebP (EXIF user comment).
    """
    try:
        if not path.is_file():  # reading a pipe may never end
            return PictureFacts()
        with Image.open(path) as image:
            texts = {name: text for name, text in image.info.items() if isinstance(text, str)}
            comment = image.getexif().get_ifd(_EXIF).get(_USER_COMMENT)
    except Exception:  # broken files meet Pillow's readers with almost any exception, and this is only an extra
        return PictureFacts()
    if isinstance(comment, bytes):
        texts.setdefault("parameters", _comment(comment))
    if texts.get("parameters"):
        return _of_parameters(texts["parameters"][:MAX_TEXT])
    if texts.get("prompt"):
        return _of_graph(texts["prompt"][:MAX_TEXT])
    return PictureFacts()


def _comment(data: bytes) -> str:
    """An EXIF user comment: eight bytes of its encoding, then the text."""
    encoding = "utf-16-be" if data[:8] == b"UNICODE\0" else "utf-8"
    return data[8:].decode(encoding, "replace").strip("\0 ")


def _of_parameters(text: str) -> PictureFacts:
    """A1111's way: prompt, "Negative prompt: ...", and a last line of "Name: value"."""
    body, _, settings = text.rpartition("\n") if "Steps: " in text.rpartition("\n")[2] else (text, "", "")
    prompt, _, negative = body.partition("\nNegative prompt: ")
    seed, model = _SEED.search(settings), _MODEL.search(settings)
    return PictureFacts(
        prompt.strip()[:MAX_PROMPT],
        negative.strip()[:MAX_PROMPT],
        _seed(seed[1]) if seed else None,
        model[1].strip('" ')[:200] if model else "",
    )


def _of_graph(text: str) -> PictureFacts:
    """ComfyUI's way: the graph that was queued, by number of the node."""
    try:
        graph = json.loads(text)
    except (ValueError, RecursionError):
        return PictureFacts()
    if not isinstance(graph, dict):
        return PictureFacts()
    nodes = {str(name): node for name, node in graph.items() if isinstance(node, dict)}
    inputs = {name: node["inputs"] for name, node in nodes.items() if isinstance(node.get("inputs"), dict)}
    model = next((str(one["ckpt_name"]) for one in inputs.values() if isinstance(one.get("ckpt_name"), str)), "")
    for one in inputs.values():
        if "positive" in one and "negative" in one and ("seed" in one or "noise_seed" in one):
            seed = one.get("seed", one.get("noise_seed"))
            prompt, negative = (_followed(one[side], inputs, _DEPTH) for side in ("positive", "negative"))
            number = seed if isinstance(seed, int) and not isinstance(seed, bool) else None
            return PictureFacts(prompt, negative, _seed(number), model[:200])
    return PictureFacts(model=model[:200])


def _followed(value: Any, inputs: Mapping[str, Mapping[str, Any]], depth: int) -> str:
    """The text at the end of a link."""
    if isinstance(value, str):
        return value.strip()[:MAX_PROMPT]
    if depth and isinstance(value, list) and len(value) == 2 and str(value[0]) in inputs:
        node = inputs[str(value[0])]
        for name in _TEXT_INPUTS:
            if name in node and (text := _followed(node[name], inputs, depth - 1)):
                return text
    return ""


def _seed(value: Any) -> int | None:
    return int(value) if value is not None and 0 <= int(value) < 2**63 else None
