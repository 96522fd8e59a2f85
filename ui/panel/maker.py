"""From a pool of pictures to the pair worth asking about."""

from __future__ import annotations

import logging
import random
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from ...adapters.comparisons.images import pixel_hash
from ...adapters.errors import EncoderError, ImageError, NotEnoughAnswersError
from .pair import CHOSEN, RANDOM, Candidate, Pair, Pool
from .sources import Source

if TYPE_CHECKING:
    from .studio import Studio

__all__ = ["PairMaker"]

logger = logging.getLogger(__name__)

KEPT_VECTORS = 4096
ATTEMPTS = 8
EVERY = 3  # one pair in so many is drawn by chance: how well a taste predicts can only be told on such


class PairMaker:
    """Makes pairs for one person: random before the first answers, then two of three the most informative of the pool.

    Args:
        studio: Store, encoder and tastes.
        source: Where pictures come from.
        person: Whose taste decides what is worth asking.
        seed: Fixes sides and random choices.
    """

    def __init__(self, studio: Studio, source: Source, person: str, seed: int | None = None) -> None:
        self._studio = studio
        self._source = source
        self._person = person
        self._random = random.Random(seed)
        self._made = 0
        self._vectors: OrderedDict[str, torch.Tensor] = OrderedDict()

    def __call__(self, hurry: bool, cancelled: Callable[[], bool]) -> Pair | None:
        """Make one pair and store its pictures; None when cancelled.

        Raises:
            ImageError: the source has no two different pictures.
        """
        for _ in range(ATTEMPTS):
            pool = self._source.pool(hurry, cancelled)
            if pool is None or cancelled():
                return None
            first, second, drawn = self._choose(pool)
            self._source.done(pool, first, second)
            if not hurry:  # time that nobody waits for, and the tab "Learned" then opens at once
                self._look_at(pool.candidates[first], pool.candidates[second])
            pair = self._stored(pool, first, second, drawn)
            if pair.left != pair.right:
                self._made += 1
                return pair
        raise ImageError("Cannot make a pair: the pictures are all the same; expected two different ones.")

    def _choose(self, pool: Pool) -> tuple[int, int, str]:
        """Return two indices of the pool, and how they were drawn."""
        if self._made % EVERY and len(pool.candidates) > 2:
            try:
                model = self._studio.taste(self._person).model
            except (NotEnoughAnswersError, EncoderError) as error:
                logger.debug("a random pair: %s", error)
            else:
                vectors = torch.stack([self._vector(candidate) for candidate in pool.candidates])
                first, second = self._studio.tools.choose(model, vectors)
                return int(first), int(second), CHOSEN
        # What an earlier choice left over is no fair draw: it is what seemed to teach little.
        count = len(pool.candidates)
        first, second = self._random.sample(range(count - (pool.fresh or count), count), 2)
        return first, second, RANDOM

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

    def _stored(self, pool: Pool, first: int, second: int, drawn: str) -> Pair:
        if self._random.random() < 0.5:
            first, second = second, first
        left, right = pool.candidates[first], pool.candidates[second]
        store = self._studio.store
        images = [side.open() for side in (left, right)]
        ids = [store.add_image(image) for image in images]
        keys = [pixel_hash(image) for image in images]
        known = {image_id: self._vectors[key] for image_id, key in zip(ids, keys, strict=True) if key in self._vectors}
        if known:
            store.put_vectors(self._studio.encoder().identity, known)
        return Pair(ids[0], ids[1], pool.prompt, left.seed, right.seed, pool.model, drawn)
