"""What the browser is told about offered pairs."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ..adapters.comparisons import Offer, PreferenceStore

MOST = 50  # undecided pairs told at a time


def state(store: PreferenceStore, person: str, offer_ids: Collection[str] | None = None) -> dict[str, Any]:
    """Pairs of a person with the outcomes so far, and how many answers there are in all.

    Args:
        store: Where they are.
        person: Whose.
        offer_ids: Which pairs, all of them; None for the newest undecided ones, newest last.
    """
    outcomes = {comparison.id: comparison.outcome for comparison in store.comparisons(person)}
    if offer_ids is None:
        # A panel shows the pairs it made by itself, and nowhere else.
        offers = [offer for offer in store.offers(person) if not offer.source.startswith("panel")][-MOST:]
    else:
        known = store.offers(person, open_only=False) if offer_ids else []
        offers = [offer for offer in known if offer.id in offer_ids]
    answers = sum(outcome != "skip" for outcome in outcomes.values())
    pairs = [told(offer, outcomes.get(offer.comparison)) for offer in offers]
    return {"person": person, "answers": answers, "pairs": pairs}


def told(offer: Offer, outcome: str | None = None) -> dict[str, Any]:
    """One pair; `outcome` is None while it is undecided."""
    return {"offer": offer.id, "left": offer.left, "right": offer.right, "prompt": offer.prompt, "outcome": outcome}
