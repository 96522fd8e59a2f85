"""What was learned of one person, of everything or of one prompt: words, the ends of the scale, a strip, a map."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from ...adapters.errors import NotEnoughAnswersError
from ...adapters.taste import sentence_vectors, words_of
from ...adapters.taste.map import strip, taste_map
from .fresh import Fresh

if TYPE_CHECKING:
    from torch import Tensor

    from ...adapters.comparisons import Comparison
    from ...adapters.taste import Taste, WordEffect
    from .studio import Studio

__all__ = ["Learned", "Looks", "Place", "Subject"]

SHOWN = 8  # pictures in each of the rows of the best and the worst
STRIP = 9  # pictures from "not me" to "me"
MAPPED = 160  # pictures on the map
WORDED = 8  # pictures of one prompt from which words can be told
SUBJECTS = 40  # prompts to choose from
OTHERS, OTHERS_ANSWERS = 5, 40  # people who were here last, and their newest answers
SUBJECT = "subject"  # the kind of words that say what a picture shows
LEAST = 4  # pictures of a prompt worth choosing
BETWEEN = "\n"  # of person and prompt in a key; no name has it


@dataclass(frozen=True)
class Subject:
    """A prompt, and how many pictures of it the person saw."""

    prompt: str
    pictures: int


@dataclass(frozen=True)
class Place:
    """Where a picture lies on the map: x from what is liked least, 0, to what is liked most, 1; y what else differs."""

    image: str
    x: float
    y: float


@dataclass(frozen=True)
class Learned:
    """What is known about one person's taste.

    Attributes:
        answers: All that say something. subject: The prompt that it is about; "" for everything.
        pictures: How many were looked at, those that were painted for it among them.
        best, worst: Image ids, the best of the best and the worst of the worst first.
        likes, dislikes: Words of known or likely sign, sure ones first; None where the encoder has no words.
        strip: Image ids from what is liked least to what is liked most.
        encoder, encoder_name: Identity and name of what it was learned with.
        prompts: What each picture was made from, as far as it is known.
    """

    person: str
    answers: int
    subject: str = ""
    pictures: int = 0
    best: tuple[str, ...] = ()
    worst: tuple[str, ...] = ()
    likes: tuple[WordEffect, ...] | None = None
    dislikes: tuple[WordEffect, ...] | None = None
    strip: tuple[str, ...] = ()
    map: tuple[Place, ...] = ()
    encoder: str = ""
    encoder_name: str = ""
    prompts: Mapping[str, str] = field(default_factory=dict)


def _nothing(prompt: str) -> Sequence[str]:
    return ()


def _unheard(done: int, count: int) -> None:
    """Nobody is told how far it is."""


class Looks:
    """Looks at what was learned, again only when there is a new answer or a new picture.

    Args:
        studio: Store, encoder and tastes.
        painted: Gives the stored pictures that were painted for a prompt and not compared.
    """

    def __init__(self, studio: Studio, painted: Callable[[str], Sequence[str]] = _nothing) -> None:
        self._studio, self._painted = studio, painted
        self._fresh: Fresh[Learned] = Fresh(self._revision, self._look)

    def of(self, person: str, subject: str = "") -> Learned:
        """Return what was learned about a person, of all pictures or of those of one prompt.

        Raises:
            NotEnoughAnswersError: nothing to learn from yet.
        """
        return self._fresh.of(person + BETWEEN + subject)

    def kept(self, person: str, subject: str = "") -> Learned | None:
        """Return it if it is worked out and nothing happened since."""
        return self._fresh.current(person + BETWEEN + subject)

    def encode(self, person: str, subject: str, tell: Callable[[int, int], None] = _unheard) -> None:
        """Encode what the look will need; `tell` hears (pictures done, of how many) and may raise to stop."""
        answered = [side for one in self._studio.store.comparisons(person) for side in (one.left, one.right)]
        wanted = [one for one in (*answered, *self._painted(subject)) if self._studio.store.has_image(one)]
        self._studio.tools.vectors(self._studio.store, self._studio.encoder(), wanted, on_batch=tell)

    def encode_others(self, person: str, tell: Callable[[int, int], None] = _unheard) -> None:
        """Encode some of what others saw: without it their average can't be held against this person's taste."""
        store = self._studio.store
        others = [one.person for one in store.people_answers() if one.person != person][:OTHERS]
        newest = [answer for other in others for answer in store.newest(other, OTHERS_ANSWERS)]
        wanted = [side for one in newest for side in (one.left, one.right) if store.has_image(side)]
        self._studio.tools.vectors(store, self._studio.encoder(), wanted, on_batch=tell)

    def subjects(self, person: str) -> tuple[Subject, ...]:
        """Return the prompts that the person saw most pictures of, those first."""
        seen = Counter({prompt: 0 for prompt in ("",)})
        for prompt, _ in {
            (one.prompt, side) for one in self._studio.store.comparisons(person) for side in (one.left, one.right)
        }:
            seen[prompt] += 1
        del seen[""]
        found = sorted(((count, prompt) for prompt, count in seen.items() if count >= LEAST), reverse=True)
        return tuple(Subject(prompt, count) for count, prompt in found[:SUBJECTS])

    def _revision(self, key: str) -> object:
        person, _, subject = key.partition(BETWEEN)
        return self._studio.learned_of(person), tuple(self._painted(subject))

    def _look(self, key: str) -> Learned:
        person, _, subject = key.partition(BETWEEN)
        studio = self._studio
        comparisons = [one for one in studio.store.comparisons(person) if one.outcome != "skip"]
        if not comparisons:
            raise NotEnoughAnswersError("There is nothing to show yet. Answer a few pairs under Compare first.")
        taste = studio.taste(person)
        sides = [side for one in comparisons if subject in ("", one.prompt) for side in (one.left, one.right)]
        wanted = [one for one in dict.fromkeys((*sides, *self._painted(subject))) if studio.store.has_image(one)]
        vectors = studio.tools.vectors(studio.store, studio.encoder(), wanted)
        images = list(vectors)
        table = torch.stack(list(vectors.values())) if images else torch.zeros(0, taste.width)
        utility = taste.utility(table)
        order = [images[i] for i in torch.argsort(utility, descending=True, stable=True).tolist()]
        shown = min(SHOWN, len(order) // 2)
        likes, dislikes = self._in_words(taste, table, subject) if not subject or len(images) >= WORDED else ((), ())
        return Learned(
            person,
            studio.store.count(person),
            subject,
            len(images),
            tuple(order[:shown]),
            tuple(order[::-1][:shown]),
            likes,
            dislikes,
            tuple(images[i] for i in strip(utility, STRIP)),
            _places(images, table, taste.weights),
            taste.encoder,
            taste.encoder_name,
            {one: subject for one in images} | _prompts(comparisons, images),
        )

    def _in_words(self, taste: Taste, vectors: Tensor, subject: str) -> tuple[Any, Any]:
        """Return what is liked and disliked, None both where the encoder has no text side."""
        encoder = self._studio.encoder()
        if not getattr(encoder, "has_text", False) or not len(vectors):
            return None, None
        # What a picture shows is given where one prompt is looked at.
        told = [word for word in self._studio.tools.words() if not subject or word.kind != SUBJECT]
        likes, dislikes = words_of(taste, told, sentence_vectors(encoder, told), vectors)
        return tuple(likes), tuple(dislikes)


def _prompts(comparisons: Sequence[Comparison], images: Sequence[str]) -> dict[str, str]:
    wanted = set(images)
    return {side: one.prompt for one in comparisons for side in (one.left, one.right) if side in wanted and one.prompt}


def _places(images: Sequence[str], vectors: Tensor, weights: Tensor) -> tuple[Place, ...]:
    """Return the map's places, stretched to 0 to 1 both ways; of many pictures the first and every so many-th."""
    step = max(1, -(-len(images) // MAPPED))
    points = torch.as_tensor(taste_map(vectors[::step], weights))
    if len(points) < LEAST:
        return ()
    low, high = points.amin(0), points.amax(0)
    shares = (points - low) / (high - low).clamp(min=1e-9)
    return tuple(Place(image, float(x), float(y)) for image, (x, y) in zip(images[::step], shares, strict=True))
