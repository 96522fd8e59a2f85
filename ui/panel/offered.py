"""Pairs and sets as offers of the store: an answer carries the offer's id, so that it is recorded once."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from ...adapters.comparisons import Comparison, Offer
from .pair import CHOSEN, Pair

if TYPE_CHECKING:
    from ...adapters.comparisons import PreferenceStore

__all__ = ["offered", "opened_again", "pair_of"]


def offered(store: PreferenceStore, person: str, pair: Pair) -> Pair:
    """Return the pair with the ticket of an offer that waits for this person's answer from now on."""
    offer = store.offer(
        person,
        pair.left,
        pair.right,
        pair.prompt,
        pair.left_seed,
        pair.right_seed,
        pair.model,
        pair.source,
        others=pair.others,
        seeds=(pair.left_seed, pair.right_seed, *pair.other_seeds) if pair.others else None,
    )
    return pair_of(offer)


def opened_again(store: PreferenceStore, undone: Comparison, elsewhere: Collection[str]) -> Offer | None:
    """Return the offer that an undone answer was the answer to; None for one that came from none.

    Args:
        elsewhere: Tickets that browsers hold.
    """
    found = [
        offer
        for offer in store.offers(undone.person)
        if offer.id not in elsewhere
        and bool(offer.others) == (undone.ranking is not None)
        and offer.left == undone.left
        and undone.right in offer.images[1:]
        and (offer.prompt, offer.source) == (undone.prompt, undone.source)
    ]
    return found[-1] if found else None


def pair_of(asked: Offer | Comparison) -> Pair:
    """Return the pair of an offer, or of an answer that came from none."""
    pair = Pair(
        asked.left, asked.right, asked.prompt, asked.left_seed, asked.right_seed, asked.model, asked.source or CHOSEN
    )
    if isinstance(asked, Comparison):
        return pair
    return replace(pair, ticket=asked.id, others=asked.others, other_seeds=asked.seeds[2:])
