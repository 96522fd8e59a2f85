"""The tastes that a person combines under Generate: people of the store and files, each with a weight.

A model with two text encoders is moved by one taste for each, so that there is one blend for every encoder in use.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...adapters.errors import EncoderError, EncoderMismatchError, SteeringError
from ...adapters.taste import blend_tastes
from .tastes import TasteFiles

if TYPE_CHECKING:
    from ...adapters.taste import Taste
    from .studio import Studio

__all__ = ["FILE", "MOST", "PERSON", "USER", "Blends", "Part"]

FILE, PERSON, USER = "file:", "person:", "user:"
MOST = 12  # tastes at once


@dataclass(frozen=True)
class Part:
    """One taste and its weight.

    Attributes:
        source: "person:NAME", "file:NAME" of a taste, or "user:NAME" of a user file, which only a PPD takes.
        weight: -1 to 1; negative ones turn the taste around, 0 leaves it out.
    """

    source: str
    weight: float

    def __post_init__(self) -> None:
        if not self.source.startswith((FILE, PERSON, USER)):
            raise SteeringError(
                f"Cannot use the taste {self.source[:80]!r}: expected {PERSON}NAME, {FILE}NAME or {USER}NAME. Choose "
                "another."
            )
        if not -1 <= self.weight <= 1:
            raise SteeringError(
                f"Cannot use the taste {self.name!r} with weight {self.weight:g}; expected -1 to 1. Change its weight."
            )

    @property
    def name(self) -> str:
        """Of the person or the file."""
        return self.source.partition(":")[2]


class Blends:
    """Tastes by source, and what they add up to.

    Args:
        studio: Gives people's tastes and the encoder.
        files: The shelf.
    """

    def __init__(self, studio: Studio, files: TasteFiles) -> None:
        self._studio, self._files = studio, files
        self._fitted: dict[tuple[str, str], tuple[int, Taste]] = {}
        self._lock = threading.Lock()

    def encoders(self) -> tuple[Any, ...]:
        """All encoders that tastes can be learned with here, the first of them the one that learns."""
        return (self._studio.encoder(), *self._studio.tools.more_encoders())

    def of(self, parts: Sequence[Part]) -> tuple[Taste, ...]:
        """Return one taste for each encoder that the parts belong to; none when every weight is 0.

        Raises:
            EncoderMismatchError: a file was learned with an encoder that isn't in use here.
            NotEnoughAnswersError: a person has answered nothing yet.
            SteeringError: too many parts, or a user file.
        """
        used = [part for part in parts if part.weight != 0]
        if len(used) > MOST:
            raise SteeringError(f"Cannot combine {len(used)} tastes; expected at most {MOST}. Remove some.")
        for part in used:
            if part.source.startswith(USER):
                raise SteeringError(
                    f"Cannot move the prompt by {part.name!r}: a user file is for the denoiser; expected people and "
                    "taste files. Choose the denoiser under Moves, or remove it."
                )
        blended = []
        loaded = {part.name: self._file(part.name) for part in used if part.source.startswith(FILE)}
        for encoder in self._encoders_for(loaded.values(), any(part.source.startswith(PERSON) for part in used)):
            found: list[tuple[Taste, float]] = []
            for part in used:
                if part.source.startswith(PERSON):
                    found.append((self._person(part.name, encoder), part.weight))
                elif loaded[part.name].encoder == encoder.identity:
                    found.append((loaded[part.name], part.weight))
            if found:
                blended.append(_blend(found))
        return tuple(blended)

    def fits(self, encoder: str, name: str = "", person: str = "") -> str:
        """Return "" when tastes of this encoder can be used here, else what would fit."""
        try:
            encoders = self.encoders()
        except EncoderError:  # files carry their text side; whether the model takes it, the model knows
            return ""
        if encoder in {one.identity for one in encoders}:
            return ""
        alike = any(one.name == name for one in encoders)  # only then the identities tell more than the names
        known = " or ".join(f"{one.name} ({one.identity[:12]})" if alike else one.name for one in encoders)
        whose = f"{person}'s taste" if person else "this taste"
        others = [
            entry.name
            for entry in self._files.entries()
            if entry.said is not None
            and entry.said.encoder in {one.identity for one in encoders}
            and entry.said.person == person
        ]
        file = f"Use {others[0]!r}" if others else f"Ask for {whose} learned with {encoders[0].name}"
        return (
            f"It was learned with {name or 'another encoder'}{f' ({encoder[:12]})' if alike else ''}; this model is "
            f"steered with {known}. {file}, or open the panel with the model that it is for: "
            f"--model ITS-MODEL --encoder {_spec(name)}; SDXL takes both: "
            f"--encoder {_spec(encoders[0].name)} --encoder {_spec(name)}."
        )

    def _encoders_for(self, files: Iterable[Taste], people: bool) -> Sequence[Any]:
        """The encoders in use; where there is none and nobody is to be learned from, those that the files name."""
        try:
            return self.encoders()
        except EncoderError:
            if people:
                raise
            return [_Named(identity) for identity in dict.fromkeys(taste.encoder for taste in files)]

    def _file(self, name: str) -> Taste:
        taste = self._files.load(name)
        trouble = self.fits(taste.encoder, taste.encoder_name, taste.person)
        if trouble:
            raise EncoderMismatchError(f"Cannot steer with {name!r}: {trouble[0].lower()}{trouble[1:]}")
        return taste

    def _person(self, person: str, encoder: Any) -> Taste:
        if encoder is self._studio.encoder():
            return self._studio.taste(person)
        revision, key = self._studio.learned_of(person), (person, encoder.identity)
        with self._lock:
            kept = self._fitted.get(key)
        if kept is None or kept[0] != revision:
            kept = revision, self._studio.tools.fit(self._studio.store, encoder, person, **self._studio.faded(person))
            with self._lock:
                self._fitted[key] = kept
        return kept[1]


def _spec(name: str) -> str:
    """An encoder as `--encoder` takes it, from its name for people; of a file's name only the path is missing."""
    if name.startswith("open_clip "):
        return name.replace(" ", ":", 1)
    return name if "/" in name else f"PATH/TO/{name or 'ITS-ENCODER'}"


@dataclass(frozen=True)
class _Named:
    """An encoder that is known by name only."""

    identity: str


def _blend(found: list[tuple[Taste, float]]) -> Taste:
    if len(found) == 1 and found[0][1] == 1:
        return found[0][0]  # with its pairs, which steer better than a direction alone
    return blend_tastes([taste for taste, _ in found], [weight for _, weight in found])
