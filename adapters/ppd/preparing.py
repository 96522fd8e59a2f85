"""Answers of many people made ready once: pictures as latents and as image vectors, prompts as conditioning.

All of it lies on the disk, shard by shard; what is in memory is one shard's names of pictures, and eight answers.

Shapes: C channels, h and w of the latents, D width of the image vectors.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ..comparisons.images import read_image
from ..errors import CancelledError, ImageError, PPDError
from ..exchange.foreign import Foreign, Picture
from ..exchange.importing import opened
from ..finetune.prepared import covering
from .base import Readers
from .data import FEWEST_PAIRS, PreparedPPD, rows_of
from .sources import AnswerSource
from .tables import Tables

__all__ = ["Counted", "known_as", "mark_of", "prepare_people"]

TOGETHER = 8  # answers whose pictures are encoded at a time


@dataclass(frozen=True)
class Counted:
    """What became of the answers.

    Attributes:
        answers: Rows that were read. pairs: Those that are trained on or judged by.
        ties: Without a preference. lost: Rows or pictures that can't be read. equal: Of one picture twice.
        nameless: Of a person whom nobody named.
        people: Who is in. alone: People with too few pairs. alone_pairs: Their pairs.
    """

    answers: int = 0
    pairs: int = 0
    ties: int = 0
    lost: int = 0
    equal: int = 0
    nameless: int = 0
    people: int = 0
    alone: int = 0
    alone_pairs: int = 0

    @property
    def sentence(self) -> str:
        """In one line."""
        left_out = {
            "ties or without an answer": self.ties,
            "that can't be read": self.lost,
            "of one picture twice": self.equal,
            "that don't say whose they are": self.nameless,
            f"of {self.alone} people with fewer than {FEWEST_PAIRS}": self.alone_pairs,
        }
        found = ", ".join(f"{count} {what}" for what, count in left_out.items() if count)
        return f"{self.pairs} pairs of {self.people} people" + (f"; left out: {found}." if found else ".")


def prepare_people(
    source: AnswerSource,
    readers: Readers,
    folder: Path,
    about: str = "",
    on_answer: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> tuple[PreparedPPD, Counted]:
    """Prepare a source, or go on with it, or open what was prepared before.

    Args:
        source: Of the answers.
        readers: Of pictures and prompts.
        folder: For the tables; those of another source, model, encoder or size make room.
        about: The model, to know the tables again by.
        on_answer: Called with (answers done, all; 0 where that is not known).
        cancelled: Asked before each few answers; whole shards are kept.

    Raises:
        CancelledError: `cancelled` said so.
        PPDError: no answers to train on; the disk is full, and what was kept is safe.
    """
    tables = Tables(folder, known_as(source, readers, about))
    if not tables.facts["complete"]:
        _Preparing(source, readers, tables, on_answer, cancelled).run()
    return _opened(tables)


def known_as(source: AnswerSource, readers: Readers, about: str) -> dict[str, Any]:
    """What prepared tables are known again by."""
    return {"source": source.identity, "model": about, "encoder": readers.encoder.identity, "size": readers.size}


@dataclass(eq=False)
class _Preparing:
    source: AnswerSource
    readers: Readers
    tables: Tables
    on_answer: Callable[[int, int], None] | None
    cancelled: Callable[[], bool] | None
    found: Counter[str] = field(default_factory=Counter)

    def run(self) -> None:
        kept: dict[str, int] = self.tables.facts.get("found", {})
        self.found.update(kept)
        self.count = self.source.count() or 0
        self.names: dict[str, int] = {name: number for number, name in enumerate(self.tables.facts["names"])}
        self.prompts: dict[str, int] = {prompt: number for number, prompt in enumerate(self.tables.prompts())}
        done = set(self.tables.facts["done"])
        for shard in self.source.shards():
            if shard not in done:
                self._shard(shard)
                done.add(shard)
                self.tables.keep(done=sorted(done), names=list(self.names), found=dict(self.found))
        self._prompt("", last=True)
        self.tables.keep(complete=True)

    def _shard(self, shard: str) -> None:
        self.pictures: dict[str, int] = {}  # by what they are, in this shard
        waiting: list[Foreign] = []
        for answer in self._answers(shard):
            waiting.append(answer)
            if len(waiting) == TOGETHER:
                self._add(waiting)
                waiting = []
        if waiting:
            self._add(waiting)

    def _answers(self, shard: str) -> Iterator[Foreign]:
        """Those that prefer one of two pictures."""
        for answer in self.source.answers(shard):
            if self.cancelled is not None and self.found["answers"] % TOGETHER == 0 and self.cancelled():
                raise CancelledError("Stopped before the training began. What was prepared is kept by whole shards.")
            self.found["answers"] += 1
            if self.on_answer is not None:
                self.on_answer(self.found["answers"], self.count)
            if not isinstance(answer, Foreign):
                self.found["lost"] += 1
            elif answer.chosen is None or answer.rejected is None:
                self.found["ties"] += 1
            elif not answer.person:  # together they would be one person of many tastes
                self.found["nameless"] += 1
            else:
                yield answer

    def _add(self, answers: list[Foreign]) -> None:
        sides = [(answer.chosen, answer.rejected) for answer in answers]
        names = [tuple(_name(picture) for picture in pair if picture is not None) for pair in sides]
        new: dict[str, Image.Image] = {}
        for pair, called in zip(sides, names, strict=True):
            for picture, name in zip(pair, called, strict=True):
                if name not in self.pictures and name not in new and picture is not None:
                    with contextlib.suppress(ImageError):
                        new[name] = read_image(opened(picture))
        self._encode(new)
        rows = []
        for answer, called in zip(answers, names, strict=True):
            chosen, rejected = (self.pictures.get(name) for name in called)
            if chosen is None or rejected is None:
                self.found["lost"] += 1
            elif chosen == rejected:
                self.found["equal"] += 1
            else:
                person = self.names.setdefault(answer.person, len(self.names))
                rows.append((chosen, rejected, self._prompt(answer.prompt), person))
        if rows:
            self.tables.add("rows", torch.tensor(rows))

    def _encode(self, pictures: dict[str, Image.Image]) -> None:
        if not pictures:
            return
        shape = (self.readers.size, self.readers.size)
        latents = torch.stack([self.readers.latents(covering(one, shape)) for one in pictures.values()])
        first = self.tables.add("latents", latents)
        self.tables.add("vectors", self.readers.encoder.encode_images(list(pictures.values())))
        self.tables.add("sizes", torch.tensor([(one.height, one.width) for one in pictures.values()]))
        self.tables.add("marks", torch.tensor([_mark(name) for name in pictures]))
        self.pictures |= {name: first + place for place, name in enumerate(pictures)}

    def _prompt(self, prompt: str, last: bool = False) -> int:
        """Its number; a new one's conditioning is added. The empty prompt is last, and has no number of its own."""
        if prompt in self.prompts and not last:
            return self.prompts[prompt]
        with torch.no_grad():
            found = self.readers.text(prompt)
        self.tables.add("conditioning", found.tokens)
        if found.pooled is not None:
            self.tables.add("pooled", found.pooled)
        if not last:
            self.tables.add_prompts([prompt])
            self.prompts[prompt] = len(self.prompts)
        return self.prompts.get(prompt, -1)


def _name(picture: Picture) -> str:
    return str(picture) if isinstance(picture, Path) else hashlib.sha256(picture).hexdigest()


def mark_of(picture: Picture) -> int:
    """64 bits of what a picture is, the same in every shard; `PreparedPPD.marks` has them."""
    return _mark(_name(picture))


def _mark(name: str) -> int:
    """The same 64 bits in every shard."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)


def _opened(tables: Tables) -> tuple[PreparedPPD, Counted]:
    """Whoever has pairs enough."""
    found: dict[str, int] = tables.facts.get("found", {})
    rows, names = tables.table("rows"), list(tables.facts["names"])
    counted = {name: found.get(name, 0) for name in ("answers", "ties", "lost", "equal", "nameless")}
    if rows is None:
        raise PPDError(f"Cannot train: no answer prefers one of two pictures ({Counted(**counted).sentence})")
    each = torch.bincount(rows[:, 3], minlength=len(names)).tolist()
    kept = sorted(name for name, count in zip(names, each, strict=True) if count >= FEWEST_PAIRS)
    alone = [count for count in each if count < FEWEST_PAIRS]
    pairs = len(rows) - sum(alone)
    report = Counted(**counted, pairs=pairs, people=len(kept), alone=len(alone), alone_pairs=sum(alone))
    if len(kept) < 2:
        raise PPDError(
            f"Cannot train one denoiser for many people: found {report.sentence} Expected two people or more, each "
            f"with {FEWEST_PAIRS} answers or more that prefer one of two pictures. For one person train a LoRA: "
            "palate train lora."
        )
    latents, vectors, conditioning = (tables.table(name) for name in ("latents", "vectors", "conditioning"))
    assert latents is not None and vectors is not None and conditioning is not None
    pooled = tables.table("pooled")
    sizes = None if pooled is None else tables.table("sizes")
    chosen = rows_of(torch.as_tensor(rows).clone(), names, kept)
    marks = tables.table("marks")
    return PreparedPPD(latents, vectors, chosen, conditioning, tuple(kept), pooled, sizes, marks), report
