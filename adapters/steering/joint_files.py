"""Which files hold Stable Diffusion 3, 3.5 or FLUX.1: one with all of it, or several, as ComfyUI's users keep them.

Parts are told apart by their shapes, whatever the files are called.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import SteeringError
from ..places import typed_path
from .checkpoint_kind import kind_of_weights, read_shapes
from .joint_parts import Part, denoiser_in, parts_in
from .joint_tokenizer import t5_tokenizer

__all__ = ["JointFiles", "joint_files"]

_WANTED = {"clip_l": "CLIP-L", "clip_g": "CLIP-G", "t5": "T5", "vae": "VAE"}
_NEEDED = {"sd3": ("clip_l", "clip_g", "vae"), "flux": ("clip_l", "t5", "vae")}
# Autoencoders of the two have the same shapes: of those that nobody named the file's name decides.
_VAE_NAMES = {"sd3": r"sd.?3|stable.?diffusion.?3", "flux": r"flux|(^|[^a-z0-9])ae([^a-z]|$)"}
_USUAL = ("clip_l", "clip_g", "t5xxl")  # names that releases have


@dataclass(frozen=True, eq=False)
class JointFiles(os.PathLike[str]):
    """A model in files, each known; as a path it is the denoiser's file, which a person calls the model.

    Attributes:
        denoiser, clip_l, vae: Its parts. clip_g: Of SD3. t5: SD3 goes without.
        tokenizer: T5's `tokenizer.json`, where there is a T5.
    """

    denoiser: Part
    clip_l: Part
    vae: Part
    clip_g: Part | None = None
    t5: Part | None = None
    tokenizer: Path | None = None

    def __fspath__(self) -> str:
        return str(self.denoiser.path)

    __str__ = __fspath__

    @property
    def family(self) -> str:
        """ "sd3" or "flux"."""
        return self.denoiser.family

    @property
    def parts(self) -> list[Part]:
        """All of them."""
        return [part for part in (self.denoiser, self.clip_l, self.clip_g, self.t5, self.vae) if part is not None]

    @property
    def others(self) -> list[Path]:
        """The files beside the model's own."""
        return list(dict.fromkeys(part.path for part in self.parts if part.path != self.denoiser.path))

    @property
    def given(self) -> list[Path]:
        """What `joint_files` finds the same again with."""
        return [*self.others, *([] if self.tokenizer is None else [self.tokenizer])]

    @property
    def said(self) -> str:
        """Which files are taken beside the model's own, and what it does without; "" where there is nothing to say."""
        names = ", ".join(path.name for path in self.others)
        lacks = "" if self.t5 is not None else f"{self.denoiser.path.name} goes without a T5: none was found."
        return " ".join(text for text in (f"With {names}." if names else "", lacks) if text)


def joint_files(
    model: str | Path, given: Sequence[str | Path] = (), among: Iterable[Path] = (), tokenizer: Path | None = None
) -> JointFiles | None:
    """Find all parts of a model.

    Args:
        model: A single file: of all parts, or of the denoiser alone.
        given: Files that were named: they come before what the model's own file has. Of a folder the files may be
            taken. Also T5's `tokenizer.json`, or the folder that it is in.
        among: More files that may be taken for what is missing.
        tokenizer: T5's, where none is given; None looks near the model, as ComfyUI's folders are.

    Returns:
        None where it is no single file of SD3 or Flux.

    Raises:
        SteeringError: parts are missing, or what was given is none of them; it says all of that at once.
    """
    path = typed_path(model)
    denoiser = denoiser_in(path) if os.path.isfile(path) else None
    if denoiser is None:
        return None
    _require_plain(denoiser)
    places = [typed_path(place) for place in given]
    folders = [place for place in places if place.is_dir()]
    words = [place for place in places if place.suffix in (".json", ".model")]
    words += [place / "tokenizer.json" for place in folders if (place / "tokenizer.json").is_file()]
    files = [place for place in places if place not in (*folders, *words)]
    named = [part for place in files for part in _given(place, path)]
    offered = [*among, *(file for folder in folders for file in sorted(folder.glob("*.safetensors")))]
    search = _Search(denoiser, named, parts_in(path), offered)
    found = search.found()
    if missing := [_WANTED[name] for name in _NEEDED[denoiser.family] if name not in found]:
        beside = "; ".join(f"{part.path.name}, {part.said}" for part in search.known)
        raise _refused(
            path, f"no {' and no '.join(missing)} for it{f', beside {beside}' if beside else ''}", search.expected,
            "Put its text encoders into ComfyUI's models/text_encoders and its VAE into models/vae and choose them in "
            "the node, or name the files by --with.",
        )  # fmt: skip
    taken = {part.path for part in found.values()}
    if unused := [place for place in files if place not in taken]:
        what = "; ".join(f"{place.name}, {_said(parts_in(place))}, which doesn't fit it" for place in unused)
        raise _refused(path, what, search.expected, "Leave that out.")
    if t5 := found.get("t5"):
        known = t5.shapes["shared.weight"][0]
        tokenizer = t5_tokenizer(words[0] if words else tokenizer, (path, *sorted(taken)), known)
    return JointFiles(denoiser, **found, tokenizer=tokenizer if t5 else None)


class _Search:
    """Looks for what a denoiser needs: first in what was given, then in its own file, then in what is offered."""

    def __init__(self, denoiser: Part, given: Sequence[Part], own: Sequence[Part], offered: Sequence[Path]) -> None:
        self._denoiser, self._offered, self._more = denoiser, offered, list[Part]()
        self._tiers: list[Callable[[], Sequence[Part]]] = [lambda: given, lambda: own, self._among_offered]
        self.known = [part for part in (*given, *own) if part.kind != "denoiser"]

    @property
    def expected(self) -> str:
        """What fits."""
        told, flux = self._denoiser, self._denoiser.family == "flux"
        clips = f"a CLIP-L {told.pooled} wide" if flux else f"a CLIP-L and a CLIP-G, {told.pooled} wide together"
        t5 = f"a T5 {told.width} wide" + ("" if flux else " (or none)")
        return f"{clips}, {t5}, and a VAE with {told.channels} channels"

    def found(self) -> dict[str, Part]:
        """By the names in `JointFiles`, what there is."""
        found = self._clips()
        if t5 := self._first("t5", self._denoiser.width):
            found["t5"] = t5
        if vae := self._first("vae", self._denoiser.channels):
            found["vae"] = vae
        return found

    def _clips(self) -> dict[str, Part]:
        if self._denoiser.family == "flux":
            one = self._first("clip", self._denoiser.pooled)
            return {} if one is None else {"clip_l": one}
        known: list[Part] = []
        for tier in self._tiers:  # a file alone may have either
            known += [part for part in tier() if part.kind == "clip"]
            for large in known:
                width = self._denoiser.pooled - large.pooled
                small = next((part for part in known if part.width == width < large.width), None)
                if large.pooled and small is not None:
                    return {"clip_l": small, "clip_g": large}
        return {}

    def _first(self, kind: str, width: int) -> Part | None:
        fitting = (part for tier in self._tiers for part in tier() if part.kind == kind and part.width == width)
        return next(fitting, None)

    def _among_offered(self) -> Sequence[Part]:
        if not self._more and self._offered:
            files = sorted(set(self._offered), key=_usual)
            found = [part for path in files for part in parts_in(path) if not part.start and part.kind != "denoiser"]
            name = _VAE_NAMES[self._denoiser.family]
            self._more = [part for part in found if part.kind != "vae" or re.search(name, part.path.stem.lower())]
            self.known += found
        return self._more


def _usual(path: Path) -> tuple[bool, int, str]:
    """Releases' own names first, and of those the most exact: of one T5 the file in float16, not in float8."""
    try:
        size = path.stat().st_size
    except OSError:
        size = 0
    return not path.name.lower().startswith(_USUAL), -size, path.name


def _given(path: Path, model: Path) -> Sequence[Part]:
    """What is in a file that somebody named."""
    found = parts_in(path)
    if not found:
        raise _refused(model, f"{path.name} beside it, {_what(path)}", "text encoders and a VAE", "Leave that out.")
    return found


def _what(path: Path) -> str:
    try:
        return kind_of_weights(read_shapes(path))
    except SteeringError as error:
        return str(error).partition("found ")[2].partition(";")[0]


def _require_plain(denoiser: Part) -> None:
    """Refuse variants for filling, depth or editing, whose latents have more channels than what comes out.

    And before them what isn't whole, or packed, of which no size can be told.
    """
    if odd := denoiser.odd:
        shape = list(denoiser.shapes[odd]) if odd in denoiser.shapes else "missing"
        found, expected = f"{denoiser.said} whose {odd} is {shape}", "all of it in fp16, bf16 or fp8, not packed"
        raise _refused(denoiser.path, found, expected, "Get the file again, or another.")
    if denoiser.family != "flux":
        return
    into, out = denoiser.shapes["img_in.weight"][1], denoiser.shapes["final_layer.linear.weight"][0]
    if into != out:
        found = f"a FLUX.1 for filling or control ({into // 4} channels go in)"
        raise _refused(denoiser.path, found, "FLUX.1-dev or -schnell", "Give one of those.")


def _said(parts: Sequence[Part]) -> str:
    return " and ".join(part.said for part in parts)


def _refused(path: Path, found: str, expected: str, advice: str) -> SteeringError:
    return SteeringError(f"Cannot load the model {path.name!r}: found {found}; expected {expected}. {advice}")
