"""What the browser is told about offered pairs."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ..adapters.comparisons import Offer, PreferenceStore

MOST = 50  # pairs told at a time


def state(store: PreferenceStore, person: str, offer_ids: Collection[str] | None = None) -> dict[str, Any]:
    """Pairs of a person with the outcomes so far, and how many answers there are in all.

    Args:
        store: Where they are.
        person: Whose.
        offer_ids: Which pairs; None for the undecided ones, newest last.
    """
    outcomes = {comparison.id: comparison.outcome for comparison in store.comparisons(person)}
    offers = store.offers(person, open_only=offer_ids is None)
    if offer_ids is not None:
        offers = [offer for offer in offers if offer.id in offer_ids]
    answers = sum(outcome != "skip" for outcome in outcomes.values())
    pairs = [told(offer, outcomes.get(offer.comparison)) for offer in offers[-MOST:]]
    return {"person": person, "answers": answers, "pairs": pairs}


def told(offer: Offer, outcome: str | None = None) -> dict[str, Any]:
    """One pair; `outcome` is None while it is undecided."""
    return {"offer": offer.id, "left": offer.left, "right": offer.right, "prompt": offer.prompt, "outcome": outcome}
