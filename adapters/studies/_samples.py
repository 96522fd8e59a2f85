"""People with answers to learn from and answers to test on: simulated ones on drawn postcards, or a store's real ones.

Shapes: D width of the vectors, K captions, V pictures per caption, S answers to learn from, T to test on.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from ..comparisons import PreferenceStore
from ..encoders import ImageTextEncoder, encode_cached
from ..errors import NotEnoughAnswersError
from ..playground.captions import caption_of, sample_names
from ..playground.people import Person, features, make_people, noise_of
from ..playground.world import draw, random_card
from ._tables import Array

VIEWS = 4
_CARDS = 16  # that invented people set their noise on; it is set again here


@dataclass(frozen=True)
class Sample:
    """One person's answers as vectors.

    Attributes:
        chosen, rejected: (S, D) to learn from, in order.
        difference: (T, D) left minus right of the pairs to test on.
        text: (T, D) embedding of each pair's caption; zeros where there is none.
        left: (T,) whether left was chosen.
        truth: (T,) true log-odds of left over right; None for real people.
        given: (S,) true log-odds of chosen over rejected, below 0 where the person erred; None for real people.
    """

    person: str
    chosen: Array
    rejected: Array
    difference: Array
    text: Array
    left: Any
    truth: Array | None = None
    given: Array | None = None


@dataclass(frozen=True)
class Pool:
    """Pictures of captions, encoded and measured once.

    Attributes:
        vectors: (K, V, D). texts: (K, D). measured: (K, V, F) what people may care for.
    """

    vectors: Array
    texts: Array
    measured: Array


def draw_pool(encoder: ImageTextEncoder, captions: int, rng: random.Random) -> Pool:
    """Draw VIEWS postcards to each of so many captions: what the caption names is the same in all, the rest varies."""
    pictures: list[Image.Image] = []
    texts: list[str] = []
    for _ in range(captions):
        card = random_card(rng)
        names = sample_names(rng)
        texts.append(caption_of(card, names))
        named = {name: value for name, value in card.named().items() if name in names}
        pictures.extend(draw(random_card(rng, **named)) for _ in range(VIEWS))
    vectors = encoder.encode_images(pictures).double().numpy().reshape(captions, VIEWS, -1)
    measured = np.stack([features(picture) for picture in pictures]).reshape(captions, VIEWS, -1)
    return Pool(vectors, _texts(encoder, texts), measured)


def simulated_samples(
    encoder: ImageTextEncoder, people: int, support: int, tests: int, captions: int, seed: int
) -> list[Sample]:
    """Invent people and let them answer: `support` pairs to learn from, `tests` on captions that those don't have.

    Everybody's noise is set so that true utility agrees with AGREEMENT of the answers to pairs of one caption.
    """
    rng = random.Random(f"bt-accuracy/{seed}")
    learn, test = draw_pool(encoder, captions, rng), draw_pool(encoder, captions, rng)
    return [
        _answer(calibrated(person, learn), learn, test, support, tests, seed)
        for person in make_people(people, seed, cards=_CARDS)
    ]


def _answer(person: Person, learn: Pool, test: Pool, support: int, tests: int, seed: int) -> Sample:
    rng = random.Random(f"bt-accuracy/{seed}/{person.name}")
    sides = {}
    for name, pool, count in (("learn", learn, support), ("test", test, tests)):
        rows = []
        for _ in range(count):
            caption = rng.randrange(len(pool.vectors))
            left, right = rng.sample(range(VIEWS), 2)
            answer = person.answer(pool.measured[caption, left], pool.measured[caption, right], rng)
            rows.append((caption, left, right, answer == "left"))
        sides[name] = np.array(rows)
    caption, left, right, won = sides["learn"].T
    first, second = learn.vectors[caption, left], learn.vectors[caption, right]
    flip = (won == 0)[:, None]
    gap = _utilities(person, learn)
    given = np.where(won == 1, 1.0, -1.0) * (gap[caption, left] - gap[caption, right]) / person.noise
    caption, left, right, answers = sides["test"].T
    utility = _utilities(person, test)
    return Sample(
        person.name,
        np.where(flip, second, first),
        np.where(flip, first, second),
        test.vectors[caption, left] - test.vectors[caption, right],
        test.texts[caption],
        answers.astype(bool),
        (utility[caption, left] - utility[caption, right]) / person.noise,
        given,
    )


def _utilities(person: Person, pool: Pool) -> Array:
    """(K, V) of the pool's pictures."""
    return np.array([[person.utility(view) for view in views] for views in pool.measured])


def calibrated(person: Person, pool: Pool) -> Person:
    """The person with the noise at which true utility agrees with AGREEMENT of the answers within captions."""
    utility = _utilities(person, pool)
    first, second = np.triu_indices(VIEWS, 1)
    gaps = np.abs(utility[:, first] - utility[:, second]).reshape(-1)
    return replace(person, noise=noise_of(gaps))


def stored_samples(
    store: PreferenceStore, encoder: ImageTextEncoder, support: int, tests: int, seed: int, option: str = "--support"
) -> list[Sample]:
    """Real people's answers: in random order, the first `support` to learn from, up to `tests` others to test on.

    Args:
        store: Theirs.
        encoder: Of the pictures.
        support: S.
        tests: T at most; nobody has fewer than one.
        seed: Of the order.
        option: What the study calls the number behind `support`, for the error.

    Raises:
        NotEnoughAnswersError: nobody has more than `support` preferences.
    """
    samples: list[Sample] = []
    for name in store.people():
        found = [c for c in store.comparisons(name) if c.chosen and c.rejected]
        found = [c for c in found if store.has_image(c.left) and store.has_image(c.right)]
        if len(found) <= support:
            continue
        order = np.random.default_rng([seed, len(samples)]).permutation(len(found))
        learn, test = [found[i] for i in order[:support]], [found[i] for i in order[support : support + tests]]
        samples.append(
            Sample(
                name,
                vectors_of(store, encoder, [str(c.chosen) for c in learn]),
                vectors_of(store, encoder, [str(c.rejected) for c in learn]),
                vectors_of(store, encoder, [c.left for c in test])
                - vectors_of(store, encoder, [c.right for c in test]),
                _texts(encoder, [c.prompt for c in test]),
                np.array([c.outcome == "left" for c in test]),
            )
        )
    if not samples:
        raise NotEnoughAnswersError(
            f"Cannot run the study on {store.path.name!r}: nobody in it has more than {support} answers with a "
            f"preference. Ask for fewer with {option}, or collect more."
        )
    return samples


def vectors_of(store: PreferenceStore, encoder: ImageTextEncoder, ids: list[str]) -> Array:
    return encode_cached(store, encoder, ids).double().numpy()


def _texts(encoder: ImageTextEncoder, texts: list[str]) -> Array:
    """(N, D) unit vectors; zeros for an encoder without text, and for a picture without a prompt."""
    if not encoder.has_text:
        return np.zeros((len(texts), encoder.dim))
    unique = sorted({text for text in texts if text.strip()})
    encoded = dict(zip(unique, encoder.encode_texts(unique).double().numpy(), strict=True)) if unique else {}
    empty = np.zeros(encoder.dim)
    return np.stack([encoded.get(text, empty) for text in texts])
