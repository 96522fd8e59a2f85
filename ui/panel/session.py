"""One browser tab: whose answers, which pictures, the pairs and sets that were handed to it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ...adapters.comparisons import Comparison, Offer, Ranking
from ...adapters.comparisons.comparison import check_person
from ...adapters.errors import ImageError
from .ahead import PairsAhead
from .maker import PairMaker
from .offered import offered, opened_again, pair_of
from .pair import CHOSEN, Pair
from .sources import FolderSource, PromptSource, Source
from .wanted import Wanted

if TYPE_CHECKING:
    from .studio import Studio

__all__ = ["HAND", "Session"]

LONGEST = 3600.0  # s: who answers after an hour was away, and the time says nothing
HAND = 3  # pairs that a browser holds: one on the screen, two loaded, so that a quick click never waits


class Session:
    """What one tab shows and asks; safe to call from several threads.

    Pairs that were handed to the browser are offers in the store: an answer carries the offer's id, is recorded once
    however often it comes, and a pair that nobody answered is still there after a restart.

    Args:
        studio: Store, model and encoder, shared by all tabs.
        person: Whose answers these are.
        seed: Fixes prompts, seeds and sides; None: different every time.
    """

    def __init__(self, studio: Studio, person: str, seed: int | None = None) -> None:
        self.studio = studio
        self.person = person
        self.closed = False
        self.deleted: Comparison | Ranking | None = None  # the last answer that was deleted in this tab
        self.wanted = Wanted()
        self._hand: list[Pair] | None = None  # None: not looked for yet
        self._epoch = 0  # rises when the pairs that are being made are not wanted any more
        self._seed = seed
        self._source: Source | None = None
        self._ahead: PairsAhead | None = None
        self._lock = threading.RLock()

    @property
    def source(self) -> Source | None:
        """Where the pictures come from; None before the first pair was asked for."""
        return self._source

    @property
    def tickets(self) -> frozenset[str]:
        """Of the pairs that this tab's browser holds."""
        return frozenset(pair.ticket for pair in self._hand or ())

    # -- what to compare

    def wished(self, person: str | None = None) -> Wanted:
        """Return what is compared, and how: as chosen here, else as this person chose it last."""
        with self._lock:
            if person not in (None, self.person):
                return self.studio.wishes.of(person) or Wanted()
            self._begin()
            return self.wanted

    def use(self, wanted: Wanted, person: str | None = None) -> None:
        """Compare these pictures in this way from now on, and again after a restart; pairs of other ones are dropped.

        Args:
            wanted: The pictures and the way.
            person: Who wants it; when somebody else answers here by then, it is kept for the next time. None: whoever
                answers here.

        Raises:
            ImageError: there is no such folder, or no pictures in it.
        """
        with self._lock:
            person = self.person if person is None else person
            if self.person != person:
                self.studio.wishes.keep(person, wanted)
                return
            self._begin()
            if replace(wanted, surprise=self.wanted.surprise) == self.wanted:
                self.wanted = wanted  # what lies on the screen stays
                self.studio.wishes.keep(self.person, wanted)
                return
            same = (wanted.prompt, wanted.folder) == (self.wanted.prompt, self.wanted.folder)
            source = self._source if same else None
        source = source or self._made(wanted)
        with self._lock:
            self.studio.wishes.keep(person, wanted)
            if self.person != person:  # a large folder takes its time, and meanwhile somebody else chose
                return
            self._drop(self._own_offers())
            self._hand, self.wanted, self._epoch = [], wanted, self._epoch + 1
            self._go_on(source)

    def use_person(self, person: str) -> None:
        """Answer as this person from now on. The pair on the screen waits for the one before, those behind it don't.

        Raises:
            ComparisonError: nobody can have this name.
        """
        check_person(person)
        with self._lock:
            if person == self.person:
                return
            self._lay_down()
            self.person, self._source = person, None
            if self._ahead is not None:
                self._ahead.close(0.0)
                self._ahead = None

    # -- pairs and answers

    def pairs(self, count: int = HAND, timeout: float = 0.0, person: str | None = None) -> tuple[Pair, ...]:
        """Return up to `count` pairs, the one on the screen first; wait up to `timeout` seconds for the first.

        Args:
            person: Whom they are for; none, when somebody else answers here by then. None: for whoever answers here.

        Raises:
            PreferenceError: no pair can be made; the message says what to do.
        """
        with self._lock:
            person = self.person if person is None else person
            if self.person != person:
                return ()
            self._begin()
            ahead, epoch = self._ahead, self._epoch
        while ahead is not None and len(self._hand or ()) < count and (ahead.ready or not self._hand):
            pair = ahead.take(timeout)
            with self._lock:
                if pair is None or epoch != self._epoch:
                    break
                self._hand = [*(self._hand or ()), offered(self.studio.store, self.person, pair)]
        with self._lock:
            return tuple(self._hand or ())[:count] if self.person == person else ()

    def show(self, timeout: float = 0.0) -> Pair | None:
        """Return the pair on the screen, waiting up to `timeout` seconds for it; None when it isn't made."""
        return next(iter(self.pairs(1, timeout)), None)

    def answer(
        self,
        ticket: str,
        outcome: str,
        seconds: float | None = None,
        tiers: Sequence[Sequence[str]] = (),
        much: bool | None = None,
    ) -> Comparison | Ranking | None:
        """Record the answer to what was handed out, now or before a restart.

        Args:
            ticket: The pair or set that the person saw.
            outcome: "left", "right", "tie", "both_bad" or "skip"; of a set "ranked", "both_bad" or "skip".
            seconds: Time to answer as the browser measured it.
            tiers: Of "ranked": the pictures of the set, the best tier first.
            much: Of "left", "right" and the best of a set: whether it is much better.

        Returns:
            What is now on disk, or None when it was answered already, or dropped.

        Raises:
            ComparisonError: this is no answer to it.
            StoreError: it could not be recorded; it stays on the screen.
        """
        store = self.studio.store
        with self._lock:
            offer = store.find_offer(ticket)
            taken = None if seconds is None else round(min(max(seconds, 0.0), LONGEST), 3)
            stored: Comparison | Ranking | None = None
            if offer is not None and offer.open:
                if offer.others or outcome == "ranked":
                    stored = store.rank(ticket, tiers, outcome, taken, much if outcome == "ranked" else None)
                else:
                    stored = store.answer(ticket, outcome, taken, much if outcome in ("left", "right") else None)
            if self._hand:
                self._hand = [pair for pair in self._hand if pair.ticket != ticket]
            return stored

    def undo(self, person: str | None = None) -> Pair | None:
        """Take a person's last answer back and show what it answered again; None when there is none.

        Args:
            person: Whose; when somebody else answers here by then, it waits for its person. None: of whoever
                answers here.
        """
        store = self.studio.store
        with self._lock:
            self._begin()
            person = self.person if person is None else person
            undone = store.undo(person)  # it decides which one: another tab may answer, or undo, at this moment
            if undone is None:
                return None
            offer = opened_again(store, undone, self.studio.held(but=self) | self.tickets)
            pair = pair_of(undone if offer is None else offer)
            pair = pair if offer is not None else offered(store, person, pair)
            if self.person == person:
                self._hand = [pair, *(self._hand or ())]
            return pair

    def close(self) -> None:
        """Stop making pairs; those that the browser holds wait for the next time, or for answers still to come."""
        with self._lock:
            self.closed = True
            self._hand, self._epoch = None, self._epoch + 1
            ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead.close()

    # -- inside

    def _begin(self) -> None:
        """Take up what was left: what to compare, and the pairs that wait."""
        if self.closed:
            return
        if self._source is None:
            kept = self.studio.wishes.of(self.person) or self.wanted
            try:
                source = self._made(kept)
            except ImageError:  # the folder is gone
                kept = Wanted()
                source = self._made(kept)
            self.wanted = kept
            self._go_on(source)
        if self._hand is None:
            waiting = [offer for offer in self._own_offers() if self._shows(offer)]
            # The others may lie in the page of a tab that didn't come back yet.
            self._hand = [pair_of(offer) for offer in waiting[:HAND]]

    def _made(self, wanted: Wanted) -> Source:
        if wanted.folder:
            return FolderSource(wanted.folder, self._seed)
        prompts = [wanted.prompt] if wanted.prompt else list(self.studio.example_prompts())
        return PromptSource(self.studio.painter, prompts, self._seed)

    def _go_on(self, source: Source) -> None:
        if self.closed:
            return
        self._source = source
        make = PairMaker(self.studio, source, self.person, self._seed, self.wanted.size, lambda: self.wanted.surprise)
        if self._ahead is None:
            self._ahead = PairsAhead(make, depth=1)
        else:
            self._ahead.restart(make)

    def _own_offers(self) -> list[Offer]:
        """Return this person's undecided pairs that no other tab holds."""
        elsewhere = self.studio.held(but=self)
        return [one for one in self.studio.store.offers(self.person, source=CHOSEN) if one.id not in elsewhere]

    def _shows(self, offer: Offer) -> bool:
        return len(offer.images) == self.wanted.size and all(map(self.studio.store.has_image, offer.images))

    def _lay_down(self) -> None:
        hand, self._hand, self._epoch = self._hand or [], None, self._epoch + 1
        for pair in hand[1:]:
            self.studio.store.withdraw(pair.ticket)

    def _drop(self, offers: list[Offer]) -> None:
        for offer in offers:
            self.studio.store.withdraw(offer.id)
