"""Where the pictures to compare come from: a model and prompts, or a folder of your own."""

from __future__ import annotations

import itertools
import os
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ...adapters.comparisons.images import read_image
from ...adapters.errors import CancelledError, ImageError
from ...adapters.places import typed_path
from .pair import Candidate, Pool

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["FolderSource", "Painter", "PromptSource", "Source"]

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"}
LARGEST_SIDE = 1024  # px: what is shown and stored of a photo; encoders look at 224 to 384
MOST_FILES = 20_000
LEFTOVERS = 3  # times as many pictures of one prompt as are shown at once are kept for its next turn
SET_STARTS = 8  # pictures that a set of which no two have met is looked for around
SETS_TRIED = 200  # random sets of a folder's pictures, until all are taken to have been shown
PROBED = 50  # files that are looked into before a folder is taken


class Painter(Protocol):
    """A model that makes one picture a seed."""

    name: str

    def images(self, prompt: str, seeds: Sequence[int], **options: Any) -> list[Image.Image]: ...


class Source(Protocol):
    """Gives pools of pictures to show `size` of; `done` says which were shown, `doing` what it is at."""

    @property
    def doing(self) -> str: ...

    def pool(self, hurry: bool, cancelled: Callable[[], bool], size: int = 2) -> Pool | None: ...

    def done(self, pool: Pool, *shown: int) -> None: ...


class PromptSource:
    """Paints a few seeds of one prompt at a time, and keeps what was not shown for the prompt's next turn.

    Args:
        painter: Loads the model, or gives the one that is loaded.
        prompts: One prompt of your own, or many to go through in random order.
        seed: Fixes the order of prompts and the seeds of pictures.
    """

    def __init__(self, painter: Callable[[], Painter], prompts: Sequence[str], seed: int | None = None) -> None:
        self._painter = painter
        self._random = random.Random(seed)
        self._turns = self._shuffled(list(prompts))
        self._left: dict[str, deque[Candidate]] = {}
        self._done: float | None = None

    @property
    def doing(self) -> str:
        """What it is at, for somebody who waits."""
        if self._done is None:
            return "Loading the model…"
        return f"Painting the next pictures… {100 * self._done:.0f}\u00a0%"

    def pool(self, hurry: bool, cancelled: Callable[[], bool], size: int = 2) -> Pool | None:
        """Paint `size` pictures when somebody waits, two more when there is time; None when cancelled."""
        prompt = next(self._turns)
        left = self._left[prompt] = deque(self._left.get(prompt, ()), maxlen=LEFTOVERS * size)
        count = size if hurry or len(left) >= size else size + 2
        seeds = [self._random.randrange(2**32) for _ in range(count)]
        painter = self._painter()
        self._done = 0.0
        try:
            painted = painter.images(prompt, seeds, on_step=self._on_step, cancelled=cancelled)
        except CancelledError:
            return None
        fresh = [
            Candidate(f"{prompt}\n{seed}", lambda image=image: image, seed)  # type: ignore[misc]
            for seed, image in zip(seeds, painted, strict=True)
        ]
        left.extend(fresh)
        return Pool(tuple(left), prompt, painter.name, len(fresh))

    def done(self, pool: Pool, *shown: int) -> None:
        """Forget those that were shown."""
        kept = [candidate for index, candidate in enumerate(pool.candidates) if index not in shown]
        self._left[pool.prompt] = deque(kept, maxlen=LEFTOVERS * len(shown))

    def _on_step(self, step: int, steps: int) -> None:
        self._done = step / max(steps, 1)

    def _shuffled(self, prompts: list[str]) -> Iterator[str]:
        for _ in itertools.count():
            self._random.shuffle(prompts)
            yield from prompts


class FolderSource:
    """Pairs and sets from a folder of pictures; files that can't be read are skipped and counted.

    Args:
        folder: Searched with its subfolders; hidden ones are left out.
        seed: Fixes which pictures meet.

    Raises:
        ImageError: there is no such folder, or no two pictures in it that can be read.
    """

    def __init__(self, folder: str | Path, seed: int | None = None) -> None:
        self.folder = typed_path(folder)
        bare = str(folder).strip()
        if bare[:1] in ('"', "'") and bare[-1:] == bare[:1] and not os.path.isdir(self.folder):
            self.folder = typed_path(bare[1:-1])  # as file managers copy a path
        if not str(folder).strip() or not os.path.isdir(self.folder):
            raise ImageError(f"Cannot compare your pictures: {folder!s} is no folder. Give the path of a folder.")
        self._files = list(itertools.islice(self._pictures(), MOST_FILES))
        self._random = random.Random(seed)
        self._broken: dict[Path, int] = {}  # when it was written, ns
        self._shown: set[frozenset[str]] = set()  # what was on the screen at once, and each two of it
        self._probe()

    @property
    def doing(self) -> str:
        """What it is at, for somebody who waits."""
        return "Looking through your pictures…"

    @property
    def count(self) -> int:
        """How many files may be pictures and were not found broken so far."""
        return len(self._files) - len(self._broken)

    @property
    def broken(self) -> int:
        """How many files could not be read so far."""
        return len(self._broken)

    def pool(self, hurry: bool, cancelled: Callable[[], bool], size: int = 2) -> Pool | None:
        """Read `size` pictures when somebody waits, eight when there is time.

        No two of them were shown together, as long as there are such. When only fewer are left, a set of more than two
        is one that was not shown as a whole.

        Raises:
            ImageError: fewer than `size` pictures can be read, or everything was shown already.
        """
        found = self._unseen(hurry, cancelled, size)
        if not found and not cancelled() and self._look_again():
            found = self._unseen(hurry, cancelled, size)
        if cancelled():
            return None
        self._require(size)
        if not found:
            what = "pair" if size == 2 else f"set of {size}"
            raise ImageError(
                f"You have seen every {what} of the {self.count} pictures in {self.folder}. Add pictures, or choose "
                "another folder."
            )
        return Pool(tuple(found))

    def done(self, pool: Pool, *shown: int) -> None:
        """Don't show these together again."""
        names = [pool.candidates[index].name for index in shown]
        self._shown.add(frozenset(names))
        self._shown.update(frozenset(two) for two in itertools.combinations(names, 2))

    def _unseen(self, hurry: bool, cancelled: Callable[[], bool], size: int) -> list[Candidate]:
        """Return pictures to show `size` of; none when there seem to be none, or it was cancelled."""
        order = [path for path in self._files if path not in self._broken]
        self._random.shuffle(order)
        for first, path in enumerate(order if size == 2 else order[:SET_STARTS]):
            if cancelled():
                return []
            found = self._around(path, order[first + 1 :], size if hurry else 8)
            if len(found) >= size:
                return found
        return self._met_before(size, cancelled) if size > 2 else []

    def _look_again(self) -> bool:
        """Whether there are files that weren't there, or broken ones were written since: half a copy is broken."""
        known, self._files = set(self._files), list(itertools.islice(self._pictures(), MOST_FILES))
        before = self._broken
        there = set(self._files)
        self._broken = {path: when for path, when in before.items() if path in there and when == _written(path)}
        return bool(there - known or (there & before.keys()) - self._broken.keys())

    def _probe(self) -> None:
        """Look for two pictures; a folder with many broken files may have them further on."""
        readable = 0
        for path in self._files[:PROBED]:
            readable += self._candidate(path) is not None
            if readable == 2:
                return
        if len(self._files) <= PROBED:
            self._require(2)

    def _require(self, size: int) -> None:
        if self.count < size:
            what, number = ("pairs", "two") if size == 2 else (f"sets of {size}", str(size))
            raise ImageError(
                f"Cannot make {what} from {self.folder}: found {self.count} readable pictures and {self.broken} broken "
                f"files; expected at least {number} pictures. Choose another folder."
            )

    def _met_before(self, size: int, cancelled: Callable[[], bool]) -> list[Candidate]:
        """Return a set that was not shown as a whole; none when there seems to be none."""
        for _ in range(SETS_TRIED):
            order = [path for path in self._files if path not in self._broken]
            if cancelled() or len(order) < size:
                return []
            chosen = self._random.sample(order, size)
            if frozenset(map(str, chosen)) not in self._shown:
                found = [candidate for path in chosen if (candidate := self._candidate(path)) is not None]
                if len(found) == size:
                    return found
        return []

    def _around(self, path: Path, others: list[Path], most: int) -> list[Candidate]:
        """Return pictures of which no two were shown together, this one first; broken ones are left out."""
        found: list[Candidate] = []
        for other in [path, *others]:
            if all(frozenset((str(other), one.name)) not in self._shown for one in found):
                candidate = self._candidate(other)
                if candidate is not None:
                    found.append(candidate)
                elif not found:
                    return found
            if len(found) == most:
                break
        return found

    def _pictures(self) -> Iterator[Path]:
        for folder, inner, names in os.walk(self.folder):
            inner[:] = sorted(name for name in inner if not name.startswith("."))
            for name in sorted(names):
                if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                    yield Path(folder, name)

    def _candidate(self, path: Path) -> Candidate | None:
        written = _written(path)  # before: it may become whole while half of it is read
        try:
            image = read_image(path)
        except ImageError:
            self._broken[path] = written
            return None
        image.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
        return Candidate(str(path), lambda: image)


def _written(path: Path) -> int:
    """When a file was written, in ns; 0 where it is gone."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
