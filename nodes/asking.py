"""Questions on their way into the store, and choices on their way back to the graph. No ComfyUI here.

The same images with the same prompt are asked about once: a run that is repeated, or goes on after it was cancelled,
finds the question of before, and its answer if there is one. An answer can be taken back in the browser at any time;
then the question is open again, and asked again.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..adapters.comparisons import Comparison, Offer, PreferenceStore, Ranking
from ..adapters.errors import ComparisonError
from .questions import Choice, Group

__all__ = ["SENT_ON", "Question", "SentOn", "ask", "decide"]

_LOG = logging.getLogger(__name__)
_SOURCE = "comfyui"
_MOST = 500  # choices remembered; ComfyUI's cache holds the nodes of the last run, or some more


@dataclass(frozen=True)
class Question:
    """A question in the store.

    Attributes:
        offer: Its id.
        places: Which of the node's images it is about, as shown.
    """

    offer: str
    places: Group


def ask(
    store: PreferenceStore, person: str, prompt: str, pictures: Sequence[Any], asked: Sequence[Group], waiting: bool
) -> list[Question]:
    """Keep the pictures and find or make the question of each group; pictures that are there twice are shown once.

    Raises:
        ComparisonError: no group has two different pictures.
    """
    questions = []
    for group in asked:
        ids: dict[str, int] = {}
        for place in group:
            ids.setdefault(store.add_image(pictures[place]), place)
        if len(ids) < len(group):
            _LOG.warning("Palate shows a picture once that is there twice. Use another seed for one of them.")
        if len(ids) > 1:
            offer = _offer(store, person, prompt, list(ids), f"{_SOURCE}:wait" if waiting else _SOURCE)
            questions.append(Question(offer.id, tuple(ids.values())))
    if not questions:
        raise ComparisonError(
            "Cannot ask which you prefer: left and right are the same picture; expected two different ones. "
            "Use another seed for one of them."
        )
    return questions


def decide(store: PreferenceStore, question: Question, choice: Choice, where_open: bool = False) -> None:
    """Record a choice that nobody clicked; with `where_open` only while nobody has."""
    offer = store.find_offer(question.offer)
    if offer is None:
        return
    tiers = [[offer.images[place] for place in tier] for tier in choice.tiers] if offer.others else []
    if where_open:
        store.answer_open(offer.id, choice.outcome, tiers)
    elif not offer.others:
        store.answer(offer.id, choice.outcome)
    else:
        store.rank(offer.id, tiers, choice.outcome)


class SentOn:
    """What nodes that wait sent on, by question: their cached result is stale once somebody says something else."""

    def __init__(self) -> None:
        self._sent: OrderedDict[str, tuple[str, Choice | None]] = OrderedDict()
        self._changes: Counter[str] = Counter()
        self._lock = threading.Lock()

    def take(self, store: PreferenceStore, person: str, questions: Sequence[Question]) -> list[Choice | None]:
        """Read the choice for each question, None where there is none, and remember it."""
        found = _choices(store, [question.offer for question in questions])
        with self._lock:
            for question in questions:
                self._sent[question.offer] = person, found.get(question.offer)
                self._sent.move_to_end(question.offer)
            while len(self._sent) > _MOST:
                self._sent.popitem(last=False)
        return [found.get(question.offer) for question in questions]

    def changes(self, store: PreferenceStore, person: str | None) -> int:
        """A number that rises when a choice that was sent on is another by now; None for everybody's."""
        with self._lock:
            sent = {offer: was for offer, (who, was) in self._sent.items() if person in (None, who)}
        now = _choices(store, list(sent))
        with self._lock:
            for offer, was in sent.items():
                if now.get(offer) != was and offer in self._sent:
                    self._changes[self._sent.pop(offer)[0]] += 1
            return self._changes.total() if person is None else self._changes[person]


SENT_ON = SentOn()  # of this process, as ComfyUI's cache is


def _offer(store: PreferenceStore, person: str, prompt: str, images: Sequence[str], source: str) -> Offer:
    before = store.asked.same(person, images, prompt, _SOURCE)
    if before is not None:
        return before
    left, right, *others = images
    return store.offer(person, left, right, prompt=prompt, source=source, others=tuple(others))


def _choices(store: PreferenceStore, offers: Sequence[str]) -> dict[str, Choice | None]:
    return {offer.id: _choice(offer, answer) for offer, answer in store.asked.answers(offers)}


def _choice(offer: Offer, answer: Comparison | Ranking | None) -> Choice | None:
    if answer is None:
        return None
    if isinstance(answer, Comparison):
        return Choice(answer.outcome)
    return Choice(answer.outcome, tuple(tuple(offer.images.index(image) for image in tier) for tier in answer.tiers))
