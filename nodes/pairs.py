"""What the browser is told about questions: pairs, and batches of which the best is picked or that are put in order."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from ..adapters.comparisons import Comparison, Offer, PreferenceStore, Ranking
from .waiting import Wait

MOST = 50  # undecided questions told at a time


def state(
    store: PreferenceStore,
    person: str,
    offer_ids: Collection[str] | None = None,
    waits: Iterable[Wait] = (),
    before: str | None = None,
) -> dict[str, Any]:
    """Questions to a person with the answers so far, how many answers there are and how many questions are open.

    Args:
        store: Where they are.
        person: Whose.
        offer_ids: Which questions, all of them; None for the `MOST` newest undecided ones, newest last.
        waits: Who waits for this person now.
        before: Only undecided ones older than the question of this id: the next page.
    """
    waits = list(waits)
    found: list[tuple[Offer, Comparison | Ranking | None]]
    if offer_ids is None:
        found = [(offer, None) for offer in reversed(store.asked.newest(person, MOST, before))]
    else:
        found = [(offer, answer) for offer, answer in store.asked.answers(offer_ids) if offer.person == person]
        found.sort(key=lambda one: one[0].created or 0.0)
    return {
        "person": person,
        "answers": store.count(person),
        "open": store.asked.count(person),
        "pairs": [told(offer, answer, waits) for offer, answer in found],
        "waits": [wait.told() for wait in waits],
    }


def told(offer: Offer, answer: Comparison | Ranking | None = None, waits: Iterable[Wait] = ()) -> dict[str, Any]:
    """One question; `outcome` is None while it is undecided, `tiers` None but for batches that were put in order."""
    wait = next((wait for wait in waits if offer.id in wait.offers), None)
    sides = {} if offer.others else {"left": offer.left, "right": offer.right}
    tiers = [list(tier) for tier in answer.tiers] if isinstance(answer, Ranking) else None
    return {
        "offer": offer.id,
        "images": list(offer.images),
        **sides,
        "prompt": offer.prompt,
        "outcome": None if answer is None else answer.outcome,
        "tiers": tiers,
        "waiting": wait is not None and answer is None,
        "deadline": None if wait is None else wait.deadline,
    }


def slip(answer: Comparison) -> dict[str, Any]:
    """An answer about two images, to look at it again."""
    images = {"images": [answer.left, answer.right], "left": answer.left, "right": answer.right}
    return {"id": answer.id, **images, "prompt": answer.prompt, "outcome": answer.outcome}
