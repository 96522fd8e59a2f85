"""Which question the sidebar asks next, and questions of its own when there are none left. No ComfyUI here.

Whoever has just made pictures is asked about those first: the newest question of all comes first while it is open. Then
come those from which most would be learned, as in the panel, each judged by what the ones before it leave to learn.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from itertools import combinations, islice

import numpy as np

from ..adapters.comparisons import Comparison, Offer, PreferenceStore
from ..adapters.errors import ComparisonError
from ..adapters.taste import Taste, choose_pair, worth_asking

__all__ = ["SOURCE", "another", "order"]

SOURCE = "comfyui:sidebar"
_PROMPTS, _PICTURES = 12, 200  # the latest ones, and of each the latest pictures, that are looked through

Pair = tuple[str, str]


def order(store: PreferenceStore, person: str, taste: Taste | None, offers: Sequence[Offer]) -> list[str]:
    """Ids of open questions in the order in which to ask them.

    Args:
        store: Where they are, and their pictures' vectors. Questions about pictures without come last.
        person: Whom they are for.
        taste: Theirs, None while nothing was learned: then the newest first.
        offers: The questions, the newest first.
    """
    found = [offer.id for offer in offers]
    if taste is not None:
        known = store.vectors(taste.encoder, [image for offer in offers for image in offer.images])
        told = [offer for offer in offers if all(image in known for image in offer.images)]
        options = [np.stack([known[image] for image in offer.images]) for offer in told]
        ranked = [told[place].id for place in worth_asking(taste, options)] if told else []
        found = [*ranked, *(one for one in found if one not in set(ranked))]
    newest = store.asked.latest(person)
    return sorted(found, key=lambda one: one != newest)


def another(store: PreferenceStore, person: str, taste: Taste | None) -> Offer:
    """A question about pictures that this person was asked about before: two of one prompt, never the same two.

    One of these that is still open, so that two browser tabs ask the same one and an answer counts once. Else a new
    one: the newest picture, where it was in one question only, beside the one with which it tells most; else the pair
    that tells most of all.

    Args:
        store: Where the pictures are.
        person: Who is asked.
        taste: Theirs, None while nothing was learned: then any pair of the latest prompt.

    Raises:
        ComparisonError: nothing is left to ask.
    """
    open_ones = store.asked.newest(person, _PICTURES)
    if (own := next((one for one in open_ones if one.source == SOURCE), None)) is not None:
        return own
    answers = store.comparisons(person)[::-1]
    asked = {frozenset((one.left, one.right)) for one in answers}
    asked |= {frozenset(two) for one in open_ones for two in combinations(one.images, 2)}
    groups = _of_one_prompt(answers)
    newest = _newest(answers)
    found = next(iter(_pairs(store, taste, groups, asked, newest)), None) if newest else None
    if found is None:
        found = _most_telling(store, taste, list(_pairs(store, taste, groups, asked, None)))
    if found is None:
        raise ComparisonError(
            "Cannot ask more: found no two pictures of one prompt that you were not asked about; expected some. Queue "
            "your graph again for new ones, with the prompt connected to Collect Pairs."
        )
    prompt, pair = found
    left, right = random.sample(pair, 2)
    return store.offer(person, left, right, prompt=prompt, source=SOURCE)


def _of_one_prompt(answers: Sequence[Comparison]) -> dict[str, list[str]]:
    """Pictures by prompt, the latest first; those whose prompt isn't known may have nothing in common."""
    groups: dict[str, dict[str, None]] = {}
    for one in answers:
        if one.prompt.strip() and (one.prompt in groups or len(groups) < _PROMPTS):
            groups.setdefault(one.prompt, {}).update(dict.fromkeys((one.left, one.right)))
    return {prompt: list(islice(images, _PICTURES)) for prompt, images in groups.items()}


def _newest(answers: Sequence[Comparison]) -> str | None:
    """A picture of the graph's latest question that was in no other."""
    often = Counter(image for one in answers for image in (one.left, one.right))
    latest = next((one for one in answers if one.source != SOURCE), None)
    return next((image for image in (latest.left, latest.right) if often[image] == 1), None) if latest else None


def _pairs(
    store: PreferenceStore,
    taste: Taste | None,
    groups: dict[str, list[str]],
    asked: set[frozenset[str]],
    with_this: str | None,
) -> list[tuple[str, Pair]]:
    """The pair of each prompt that tells most and was not asked; only pairs with one picture, where one is given."""
    found = []
    for prompt, images in groups.items():
        vectors: dict[str, object] = dict.fromkeys(images, None)
        if taste is not None:
            vectors = dict(store.vectors(taste.encoder, images))
        names = [image for image in images if image in vectors]
        if len(names) < 2 or (with_this is not None and with_this not in names):
            continue
        candidates = np.arange(len(names))[:, None] if taste is None else np.stack([vectors[one] for one in names])
        barred = {
            (i, j)
            for i, j in combinations(range(len(names)), 2)
            if {names[i], names[j]} in asked or (with_this is not None and with_this not in (names[i], names[j]))
        }
        if len(barred) < len(names) * (len(names) - 1) // 2:
            i, j = choose_pair(taste, candidates, exclude=barred)
            found.append((prompt, (names[i], names[j])))
    return found


def _most_telling(
    store: PreferenceStore, taste: Taste | None, pairs: Sequence[tuple[str, Pair]]
) -> tuple[str, Pair] | None:
    """Of pairs of different prompts the one that tells most; the latest prompt's, while nothing was learned."""
    if not pairs or taste is None:
        return pairs[0] if pairs else None
    known = store.vectors(taste.encoder, [image for _, pair in pairs for image in pair])
    return pairs[worth_asking(taste, [np.stack([known[image] for image in pair]) for _, pair in pairs], 1)[0]]
