"""What the playground's PPD is trained on: postcards of many captions, and many people's answers about them.

Drawn postcards are what the denoiser was trained on, so pairs need no sampling.

Shapes: K captions, V postcards of each, P people, Q pairs of each to train on, S to know them by, F features that
people may care for, D image vectors, C channels, h and w of latents.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...ppd.data import PPDPair
from ..captions import caption_of, sample_names
from ..people import FEATURES, TRAITS, Person, features, make_people, noise_of
from ..world import NAMED, UNNAMED, Card, draw, held_out, random_card
from .cards import as_images

__all__ = ["BLOCKS", "Answered", "Cards", "answers_of", "draw_cards", "people_of", "simpler", "utilities"]

Array = npt.NDArray[np.float64]
VIEWS = 12
BLOCKS = [(*NAMED, *TRAITS).index(feature.split("=")[0]) for feature in FEATURES]
_GAPS = 600  # pairs of one caption that a person's noise is set on


@dataclass(frozen=True, eq=False)
class Cards:
    """V postcards of each of K captions: what the caption names is the same in all, the rest varies.

    Attributes:
        captions: K.
        latents: (K, V, C, h, w) at a standard deviation of 1.
        vectors: (K, V, D), unit norm.
        measured: (K, V, F) from the pixels, in the order of FEATURES.
        tokens: (K + 1, 77, H) conditioning, of the empty caption last.
    """

    captions: tuple[str, ...]
    latents: Tensor
    vectors: Tensor
    measured: Tensor
    tokens: Tensor

    @classmethod
    def joined(cls, parts: Sequence[Cards]) -> Cards:
        """Several, one after the other."""
        tokens = torch.cat([*(part.tokens[:-1] for part in parts), parts[0].tokens[-1:]])
        latents, vectors, measured = (
            torch.cat([getattr(p, name) for p in parts]) for name in ("latents", "vectors", "measured")
        )
        return cls(tuple(text for part in parts for text in part.captions), latents, vectors, measured, tokens)


def draw_cards(generator: Any, captions: int, kind: str, shard: int = 0, folder: Path | None = None) -> Cards:
    """Draw, measure and encode; from the folder where they were made before.

    Args:
        generator: A `Generator` of the playground: whose autoencoder, text side and CLIP are used.
        captions: K.
        kind: "any", cards of one caption that have nothing else in common; "alike", one card and V - 1 others with one
            property changed that the caption leaves open; neither shows subject, colour and background that are held
            out. "held" is as "any", of captions of held-out cards.
        shard: Other cards for each, so that several processes can draw.
        folder: For a file of them, or None.
    """
    file = None if folder is None else folder / f"ppd-cards-{kind}-{shard}-{captions}.pt"
    if file is not None and file.is_file():
        return Cards(**torch.load(file, weights_only=True))
    rng, texts, rows = random.Random(f"ppd/{kind}/{shard}"), [], []
    for _ in range(captions):
        card = _card(rng, kind)
        names = sample_names(rng)
        texts.append(caption_of(card, names, rng.choice(("", "a postcard of ", "a picture of "))))
        rows.append(_looked_at(generator, _views(card, names, kind, rng)))
    latents, vectors, measured = (torch.stack(column) for column in zip(*rows, strict=True))
    with torch.no_grad():
        tokens = torch.cat([generator.conditioner.plain(text).tokens for text in [*texts, ""]])
    cards = Cards(tuple(texts), latents, vectors, measured, tokens)
    if file is not None:
        torch.save(vars(cards), file)
    return cards


def _views(card: Card, names: Sequence[str], kind: str, rng: random.Random) -> list[Card]:
    """V cards of one caption."""
    if kind != "alike":
        named = {name: getattr(card, name) for name in names}
        return [_card(rng, "any" if kind == "any" else "", **named) for _ in range(VIEWS)]
    left_open = [name for name in (*NAMED, *UNNAMED) if name not in names]
    views, turn = [card], 0
    while len(views) < VIEWS:
        if turn % len(left_open) == 0:
            rng.shuffle(left_open)
        changed = replace(
            card, **{left_open[turn % len(left_open)]: _other(card, left_open[turn % len(left_open)], rng)}
        )
        turn += 1
        if not held_out(changed):
            views.append(changed)
    return views


def _other(card: Card, name: str, rng: random.Random) -> Any:
    """Another value of a property than the card's."""
    while True:
        value = getattr(random_card(rng), name)
        if value != getattr(card, name):
            return value


def _card(rng: random.Random, kind: str, **named: str) -> Card:
    """A card to train on, a held-out one for "held", or with no kind any."""
    while True:
        card = random_card(rng, **named)
        if not kind or held_out(card) == (kind == "held"):
            return card


def _looked_at(generator: Any, cards: Sequence[Card]) -> tuple[Tensor, Tensor, Tensor]:
    """(V, C, h, w) latents, (V, D) vectors and (V, F) features."""
    vae, pictures = generator._pipeline.vae, [draw(card) for card in cards]
    with torch.no_grad():
        latents = vae.encode(as_images(cards)).latent_dist.mean * vae.config.scaling_factor
    latents = latents.half().float()  # as they are kept in files
    measured = torch.from_numpy(np.stack([features(picture) for picture in pictures])).float()
    return latents, generator.encoder.encode_images(pictures), measured


def people_of(count: int, seed: int, cards: Cards, blocks: Sequence[int] = ()) -> list[Person]:
    """Invent people whose noise is set on pairs of one caption, as the studies have it.

    Args:
        count: P.
        seed: As `make_people` takes it.
        cards: That the noise is set on.
        blocks: For how many properties they care, taken in turn; empty leaves them as `make_people` made them.
    """
    people = make_people(count, seed, cards=16)
    if blocks:
        rng = random.Random(f"ppd/simpler/{seed}")
        people = [simpler(person, blocks[k % len(blocks)], rng) for k, person in enumerate(people)]
    rng = random.Random(f"ppd/gaps/{seed}")
    captions, views = cards.measured.shape[:2]
    asked = np.array([(rng.randrange(captions), *rng.sample(range(views), 2)) for _ in range(_GAPS)])
    x = cards.measured.double().numpy()
    left, right = x[asked[:, 0], asked[:, 1]], x[asked[:, 0], asked[:, 2]]
    gaps = np.abs(utilities(people, left) - utilities(people, right))
    return [replace(person, noise=noise_of(gap[gap > 1e-9])) for person, gap in zip(people, gaps, strict=True)]


def simpler(person: Person, blocks: int, rng: random.Random) -> Person:
    """The person, caring for so many properties only; who cares for no more already is left alone.

    What one answer says of somebody with a single property in mind, it says of that property: such people teach a
    denoiser faster what to do about each.
    """
    cared = sorted({BLOCKS[k] for k in np.flatnonzero(person.weights)})
    if blocks >= len(cared):
        return person
    kept = set(rng.sample(cared, blocks))
    weights = np.where([block in kept for block in BLOCKS], person.weights, 0.0)
    return replace(person, weights=weights, together=())


def utilities(people: Sequence[Person], measured: Array) -> Array:
    """(P, N) how much each person likes each of N pictures, from their features (N, F): `Person.utility` for many."""
    found = np.stack([person.weights for person in people]) @ measured.T
    for row, person in zip(found, people, strict=True):
        for first, second, weight in person.together:
            row += weight * measured[:, first] * measured[:, second]
    return found


@dataclass(frozen=True, eq=False)
class Answered:
    """P people's answers; a `PPDData`. Pairs 0 to P Q - 1 are to be trained on, the P S others to know people by.

    Attributes:
        cards: That the first are about. asked: (P, Q, 3) caption, chosen and rejected card.
        others: That the second are about. known: (P, S, 3) likewise.
    """

    cards: Cards
    asked: npt.NDArray[np.int32]
    others: Cards
    known: npt.NDArray[np.int32]

    @property
    def people(self) -> int:
        return len(self.asked)

    def __len__(self) -> int:
        return int(self.asked.shape[0] * self.asked.shape[1])

    def _row(self, index: int) -> tuple[Cards, int, list[int]]:
        """What was asked about, the person, and caption, chosen and rejected card."""
        trained = index < len(self)
        table, place = (self.asked, index) if trained else (self.known, index - len(self))
        person, number = divmod(place, table.shape[1])
        return self.cards if trained else self.others, person, table[person, number].tolist()

    def pair(self, index: int, /) -> PPDPair:
        cards, person, (caption, chosen, rejected) = self._row(index)
        latents = cards.latents[caption]
        return PPDPair(latents[chosen], latents[rejected], caption if index < len(self) else -1, person)

    def vectors(self, index: int, /) -> tuple[Tensor, Tensor]:
        cards, _, (caption, chosen, rejected) = self._row(index)
        return cards.vectors[caption, chosen], cards.vectors[caption, rejected]

    def pairs_of(self, person: int, /) -> Sequence[int]:
        """Those to know the person by: never one that is trained on."""
        each = self.known.shape[1]
        return range(len(self) + person * each, len(self) + (person + 1) * each)

    def tokens(self, prompt: int, /) -> tuple[Tensor, None]:
        return self.cards.tokens[prompt], None


def answers_of(
    people: Sequence[Person], cards: Cards, others: Cards, asked: int, known: int, seed: int, among: int = 4
) -> Answered:
    """Let people answer about cards of one caption.

    Args:
        people: P, with their noise.
        cards: For Q = `asked` pairs to train on: the person's best and worst card of that caption, of `among`, in
            which the two differ most for the person, and without noise.
        others: For S = `known` pairs to know the person by: two random cards of a random caption, answered with the
            person's noise.
        seed: Of what is asked and how it is answered.
        among: 1 or more.
    """
    rng = np.random.default_rng(seed)
    trained: list[Any] = []
    support: list[Any] = []
    for start in range(0, len(people), 256):
        part = people[start : start + 256]
        utility = _scaled(part, cards)
        caption = rng.integers(len(cards.captions), size=(len(part), asked, among))
        gap = np.take_along_axis(np.ptp(utility, axis=2)[:, None], caption, 2)
        caption = np.take_along_axis(caption, gap.argmax(-1)[..., None], 2)[..., 0]
        seen = utility[np.arange(len(part))[:, None], caption]
        trained.append(np.stack([caption, seen.argmax(-1), seen.argmin(-1)], axis=-1))
        utility = _scaled(part, others)
        caption = rng.integers(len(others.captions), size=(len(part), known))
        views = rng.random((len(part), known, VIEWS)).argsort(-1)[..., :2]
        seen = utility[np.arange(len(part))[:, None, None], caption[..., None], views]
        # Gumbel's noise makes the first of two win as often as Bradley-Terry says.
        first = (seen + rng.gumbel(size=seen.shape)).argmax(-1)[..., None]
        sides = [np.take_along_axis(views, side, 2)[..., 0] for side in (first, 1 - first)]
        support.append(np.stack([caption, *sides], axis=-1))
    tables = [np.concatenate(table).astype(np.int32) for table in (trained, support)]
    return Answered(cards, tables[0], others, tables[1])


def _scaled(people: Sequence[Person], cards: Cards) -> Array:
    """(P, K, V) utilities in units of each person's noise."""
    x = cards.measured.double().numpy()
    noise = np.array([person.noise for person in people])[:, None]
    found: Array = (utilities(people, x.reshape(-1, x.shape[-1])) / noise).reshape(len(people), *x.shape[:2])
    return found
