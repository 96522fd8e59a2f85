"""The pictures that were made last, and recording which of them somebody prefers."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...adapters.comparisons import Comparison, PreferenceStore, Ranking
from ...adapters.errors import ComparisonError
from ...adapters.places import palate_home

__all__ = ["Batch", "LastBatches", "Picture"]

SOURCE = "webui"
MOST = 16  # images of one answer


@dataclass(frozen=True)
class Picture:
    """A picture as the host made it. image: PIL. prompt, seed: What from."""

    image: Any
    prompt: str = ""
    seed: int | None = None


@dataclass(frozen=True)
class Batch:
    """What one press of Generate gave. first: How many pictures the gallery shows before (the grid)."""

    pictures: tuple[Picture, ...]
    model: str = ""
    first: int = 0

    @classmethod
    def of(cls, processed: Any, model: str = "") -> Batch:
        """The host's `Processed`."""
        first, prompts, seeds = int(processed.index_of_first_image or 0), processed.all_prompts, processed.all_seeds
        images = list(processed.images)[first : first + len(seeds)]
        return cls(
            tuple(Picture(image, str(prompts[n]), int(seeds[n])) for n, image in enumerate(images)), model, first
        )


class LastBatches:
    """The last batch of each tab. Safe from any thread."""

    def __init__(self) -> None:
        self._batches: dict[str, list[Batch]] = {}
        self._last: tuple[Batch, int, str] | None = None  # that was recorded
        self._lock = threading.Lock()

    def put(self, tab: str, batch: Batch) -> None:
        """Remember what a tab made last, and the one before."""
        with self._lock:
            self._batches[tab] = [*self._batches.get(tab, [])[-1:], batch]

    def prefer(self, tab: str, place: int, person: str, folder: Path | None = None) -> str:
        """Record that somebody prefers one picture of the last batch over its others; returns one sentence.

        A picture that was made alone is compared with the one before, if that had the same prompt.

        Args:
            tab: "txt2img" or "img2img".
            place: In the gallery, from 0.
            person: Whose answer.
            folder: Of the store; None is the one of all hosts.

        Raises:
            ComparisonError: nothing there to compare it with.
            StoreError: it can't be written.
        """
        with self._lock:
            batches = list(self._batches.get(tab, []))
        if not batches:
            raise ComparisonError("Cannot record a choice: nothing was made yet; expected a batch. Press Generate.")
        batch = batches[-1]
        place -= batch.first
        if not 0 <= place < len(batch.pictures):
            raise ComparisonError(
                "Cannot record a choice: no picture is selected; expected one. Click it, not the grid."
            )
        chosen = batch.pictures[place]
        others = [one for n, one in enumerate(batch.pictures) if n != place and one.prompt == chosen.prompt]
        if not others and len(batches) > 1:
            others = [one for one in batches[0].pictures if one.prompt == chosen.prompt][-1:]
        if not others:
            raise ComparisonError(
                "Cannot record a choice: found no other picture of this prompt; expected two or more. Raise the batch "
                "size, or make another one first."
            )
        with self._lock:  # a second click on the same picture, meanwhile or later, is no second answer
            if self._last is not None and self._last[0] is batch and self._last[1:] == (place, person):
                return "Recorded already."
            with PreferenceStore(folder or palate_home() / "store") as store:
                told = _record(store, person, chosen, others[: MOST - 1], batch.model)
            self._last = batch, place, person
            return told


def _record(store: PreferenceStore, person: str, chosen: Picture, others: list[Picture], model: str) -> str:
    pictures = [chosen, *others]
    ids = [store.add_image(one.image) for one in pictures]
    kept = [n for n, image in enumerate(ids) if n == 0 or (image != ids[0] and image not in ids[:n])]
    images = tuple(ids[n] for n in kept)
    seeds = tuple(_seed(pictures[n].seed) for n in kept)
    if len(images) < 2:
        raise ComparisonError(
            "Cannot record a choice: all pictures are the same; expected different ones. Change a seed."
        )
    if len(images) == 2:
        left, right = seeds
        store.add(Comparison(person, *images, "left", chosen.prompt, left, right, model, SOURCE))
    else:
        tiers = ((images[0],), images[1:])
        store.add_ranking(Ranking(person, images, tiers, "ranked", chosen.prompt, seeds, model, SOURCE))
    count = store.count(person)
    return f"Recorded: {count} answer{'' if count == 1 else 's'} of {person}."


def _seed(seed: int | None) -> int | None:
    return seed if seed is not None and 0 <= seed < 2**63 else None
