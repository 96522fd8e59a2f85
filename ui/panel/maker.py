"""From a pool of pictures to the pair, or the set, worth asking about."""

from __future__ import annotations

import logging
import random
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from ...adapters.comparisons.images import pixel_hash
from ...adapters.errors import EncoderError, ImageError, NotEnoughAnswersError
from .pair import CHOSEN, RANDOM, REPEAT, Candidate, Pair, Pool
from .sources import Source

if TYPE_CHECKING:
    from .studio import Studio

__all__ = ["PairMaker"]

logger = logging.getLogger(__name__)

KEPT_VECTORS = 4096
ATTEMPTS = 8
EVERY = 3  # one in so many is drawn by chance: how well a taste predicts can only be told on such
APART = 5  # made between two repeats, at least: one that was made may not be an offer yet


def _never_surprised() -> float:
    return 0.0


class PairMaker:
    """Makes what one person is asked: random before the first answers, then two of three the most informative.

    Now and then a pair comes that was answered before, with its sides swapped: how often people agree with themselves
    is all that can be foreseen of them.

    Args:
        studio: Store, encoder and tastes.
        source: Where pictures come from.
        person: Whose taste decides what is worth asking.
        seed: Fixes sides and random choices.
        size: Pictures on the screen, 2 for pairs.
        surprise: Gives the share of the choice that is left to variety, 0 to 1, as it is now.
    """

    def __init__(
        self,
        studio: Studio,
        source: Source,
        person: str,
        seed: int | None = None,
        size: int = 2,
        surprise: Callable[[], float] = _never_surprised,
    ) -> None:
        self._studio = studio
        self._source = source
        self._person = person
        self._random = random.Random(seed)
        self._size = size
        self._surprise = surprise
        self._made = 0
        self._repeated = -APART
        self._vectors: OrderedDict[str, torch.Tensor] = OrderedDict()

    def __call__(self, hurry: bool, cancelled: Callable[[], bool]) -> Pair | None:
        """Make one pair or set and store its pictures; None when cancelled.

        Raises:
            ImageError: the source has not enough different pictures.
        """
        again = self._again()
        if again is not None:
            return again
        for _ in range(ATTEMPTS):
            pool = self._source.pool(hurry, cancelled, self._size)
            if pool is None or cancelled():
                return None
            shown, drawn = self._choose(pool)
            self._source.done(pool, *shown)
            if not hurry:  # time that nobody waits for, and the tab "Taste" then opens at once
                self._look_at(*(pool.candidates[index] for index in shown))
            pair = self._stored(pool, shown, drawn)
            if len(set(pair.images)) == self._size:
                self._made += 1
                return pair
        raise ImageError(
            f"Cannot make a pair: the pictures are all the same; expected {self._size} different ones. Choose others."
        )

    def _again(self) -> Pair | None:
        """Return a pair that was answered before, with its sides swapped, when it is time for one."""
        if self._size != 2 or self._made - self._repeated < APART:
            return None
        before = self._studio.tools.repeat(self._studio.store, self._person)
        if before is None:
            return None
        self._repeated = self._made
        return Pair(before.right, before.left, before.prompt, before.right_seed, before.left_seed, before.model, REPEAT)

    def _choose(self, pool: Pool) -> tuple[tuple[int, ...], str]:
        """Return indices of the pool, and how they were drawn."""
        count, size, surprise = len(pool.candidates), self._size, self._surprise()
        if self._made % EVERY and count > size:
            try:
                model = self._studio.taste(self._person).model
            except (NotEnoughAnswersError, EncoderError) as error:
                logger.debug("drawn by chance: %s", error)
            else:
                vectors = torch.stack([self._vector(candidate) for candidate in pool.candidates])
                tools = self._studio.tools
                if size == 2 and surprise == 0.0:
                    found: Sequence[int] = tools.choose(model, vectors)
                else:
                    found = tools.choose_set(model, vectors, size, surprise)
                return tuple(int(index) for index in found), CHOSEN
        # What an earlier choice left over is no fair draw: it is what seemed to teach little.
        fresh = count if pool.fresh is None else max(pool.fresh, size)
        return tuple(self._random.sample(range(count - fresh, count), size)), RANDOM

    def _look_at(self, *candidates: Candidate) -> None:
        try:
            for candidate in candidates:
                self._vector(candidate)
        except EncoderError as error:  # comparing works without one; learning will say what is missing
            logger.debug("not encoded: %s", error)

    def _vector(self, candidate: Candidate) -> torch.Tensor:
        # By pixels, not by name: a file may have become another picture since it was looked at.
        image = candidate.open()
        key = pixel_hash(image)
        if key not in self._vectors:
            self._vectors[key] = self._studio.encoder().encode_images([image])[0]
            while len(self._vectors) > KEPT_VECTORS:
                self._vectors.popitem(last=False)
        return self._vectors[key]

    def _stored(self, pool: Pool, shown: tuple[int, ...], drawn: str) -> Pair:
        candidates = [pool.candidates[index] for index in shown]
        self._random.shuffle(candidates)
        store = self._studio.store
        images = [candidate.open() for candidate in candidates]
        ids = [store.add_image(image) for image in images]
        keys = [pixel_hash(image) for image in images]
        known = {image_id: self._vectors[key] for image_id, key in zip(ids, keys, strict=True) if key in self._vectors}
        if known:
            store.put_vectors(self._studio.encoder().identity, known)
        seeds = tuple(candidate.seed for candidate in candidates)
        return Pair(
            ids[0],
            ids[1],
            pool.prompt,
            seeds[0],
            seeds[1],
            pool.model,
            drawn,
            others=tuple(ids[2:]),
            other_seeds=seeds[2:],
        )
