"""The store of all comparisons: a folder with `store.sqlite` and `images/`, shared by every host on the machine."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Sequence
from os import PathLike
from types import TracebackType

from ..errors import ComparisonError, StoreError
from ..places import typed_path
from .answering import answer_offer, change_answer, delete_answer, undo_answer
from .asked import Asked
from .comparison import Comparison, Offer, check_much, check_outcome, check_person, check_seeds
from .image_store import ImageStore
from .people import PersonAnswers, count_answers, forget_person, people, people_answers, rename_person
from .ranking import Ranking
from .rankings import insert_ranking, rank_offer
from .reading import newest_comparisons, read_comparisons, read_offers, read_rankings, read_revision
from .rows import delete_open_offer, find_offer, insert_comparison, insert_offer, offer_to_answer
from .vectors import KnownEncoder, known_encoders

__all__ = ["PreferenceStore"]


class PreferenceStore(ImageStore):
    """Comparisons, images, undecided pairs and cached vectors in one folder.

    Every method may be called from any thread, while other processes use the same folder. What a method returned from
    is on disk: it survives a killed process and a power cut. Every method may raise `StoreError`.

    An image's id is what `add_image` returns, 64 hexadecimal digits; a comparison's is its number, `Comparison.id`; an
    offer's is `Offer.id`.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        """Open the store in this folder; the folder is made when missing.

        Raises:
            NewerStoreError: a newer Palate wrote it; nothing is changed.
            StoreError: not a store, damaged, or not writable; nothing is changed.
        """
        super().__init__(path)
        self._counted: dict[str, tuple[object, PersonAnswers]] = {}

    @classmethod
    def existing(cls, path: str | PathLike[str]) -> PreferenceStore:
        """Open a store that is there already; for those who only read, and should leave no store where there is none.

        Raises:
            StoreError: there is none, or as for any other.
        """
        folder = typed_path(path)
        if not os.path.isfile(folder / "store.sqlite"):
            raise StoreError(
                f"Cannot open {folder}: found no store there; expected a folder with store.sqlite. "
                "Answer something first, in `palate panel` or in ComfyUI."
            )
        return cls(folder)

    def __enter__(self) -> PreferenceStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Comparisons

    def add(self, comparison: Comparison) -> Comparison:
        """Record one answer and return it with its id, once it is on disk.

        Image ids need no picture in this store: comparisons may come with vectors only.

        Raises:
            ComparisonError: a comparison of this id is already recorded, or it belongs to a ranking.
        """
        if comparison.ranking is not None:
            raise ComparisonError(
                f"Cannot record the comparison: it belongs to ranking {comparison.ranking}; expected one of its own. "
                "Add the ranking, which brings all of its comparisons."
            )
        with self._database.write() as connection:
            return insert_comparison(connection, comparison)

    def add_ranking(self, ranking: Ranking) -> Ranking:
        """Record one answer over several images, with the comparisons it implies; return it with its id.

        Raises:
            ComparisonError: a ranking of this id is already recorded.
        """
        with self._database.write() as connection:
            return insert_ranking(connection, ranking)[0]

    def comparisons(self, person: str | None = None, since: float | None = None) -> list[Comparison]:
        """Return the answers, oldest first; of a ranking, the comparisons it implies.

        Args:
            person: Only this person's; None for everybody's.
            since: Only those created after this time, in seconds since 1970 UTC.
        """
        with self._database.read() as connection:
            return read_comparisons(connection, person, since)

    def rankings(self, person: str | None = None) -> list[Ranking]:
        """Return the answers over several images, oldest first; one person's, or everybody's."""
        with self._database.read() as connection:
            return read_rankings(connection, person)

    def count(self, person: str) -> int:
        """Return how many answers say something about this person's taste: all but skipped ones. A ranking is one."""
        with self._database.read() as connection:
            return count_answers(connection, person)

    def newest(self, person: str, count: int, before: int | None = None) -> list[Comparison]:
        """Return up to `count` answers of a person, newest first; those with an id below `before` only.

        Of a ranking, the first comparison that it implies.
        """
        with self._database.read() as connection:
            return newest_comparisons(connection, person, count, before)

    def change(self, comparison_id: int, outcome: str) -> Comparison:
        """Give an answer another outcome, and return it.

        Raises:
            ComparisonError: there is no such answer, no such outcome, or it belongs to a ranking.
        """
        check_outcome(outcome)
        with self._database.write() as connection:
            return change_answer(connection, comparison_id, outcome)

    def undo(self, person: str) -> Comparison | None:
        """Take back this person's latest answer and return it, None when there is none. Its offer is open again.

        A ranking is taken back as a whole; returned is the first comparison it implied.
        """
        undone = self.undo_offered(person)
        return None if undone is None else undone[0]

    def undo_offered(self, person: str) -> tuple[Comparison, Offer | None] | None:
        """Do as `undo`, and return the offer, too, that is open again; None in its place for an answer to none."""
        with self._database.write() as connection:
            return undo_answer(connection, person)

    def delete(self, comparison_id: int) -> Comparison | None:
        """Delete one answer and the offer it came from; return it, None when there is none of this id.

        A comparison that a ranking implies takes the whole ranking along.
        """
        with self._database.write() as connection:
            return delete_answer(connection, comparison_id)

    def people(self) -> list[str]:
        """Return the names of all who answered, sorted."""
        with self._database.read() as connection:
            return people(connection)

    def people_answers(self) -> list[PersonAnswers]:
        """Return everybody who answered, with how much and when, who was here last first."""
        with self._database.read() as connection:
            return people_answers(connection, self._counted)

    def rename(self, person: str, name: str) -> int:
        """Give a person's answers another name; return how many there were.

        Raises:
            ComparisonError: somebody has that name, or nobody can have it.
        """
        check_person(name)
        with self._database.write() as connection:
            return rename_person(connection, person, name)

    def forget(self, person: str) -> int:
        """Delete all answers of a person for good; return how many. Pictures stay: others may have compared them."""
        with self._database.write() as connection:
            return forget_person(connection, person)

    def revision(self, person: str) -> int:
        """Return a number that rises whenever what can be learned of this person changes.

        Adding, changing, undoing and deleting answers raise it; offers and skipped pairs don't.
        """
        with self._database.read() as connection:
            return read_revision(connection, person)

    def encoders(self, person: str) -> list[KnownEncoder]:
        """Return the encoders that have vectors of images which this person compared, who has most first."""
        with self._database.read() as connection:
            return known_encoders(connection, person)

    # Offers: images that were shown and not decided yet

    def offer(
        self,
        person: str,
        left: str,
        right: str,
        prompt: str = "",
        left_seed: int | None = None,
        right_seed: int | None = None,
        model: str = "",
        source: str = "",
        others: Sequence[str] = (),
        seeds: Sequence[int | None] | None = None,
    ) -> Offer:
        """Keep a pair for this person to decide, now or later.

        Args:
            person, left, right, prompt, left_seed, right_seed, model, source: As in `Comparison`.
            others: The third image and those after it, for an offer that `rank` answers.
            seeds: One for each image as shown; takes the place of left_seed and right_seed.
        """
        shown = (left_seed, right_seed) if seeds is None else check_seeds(seeds, 2 + len(others)) or (None, None)
        offer = Offer(
            id=str(uuid.uuid4()),
            person=person,
            left=left,
            right=right,
            prompt=prompt,
            left_seed=shown[0],
            right_seed=shown[1],
            model=model,
            source=source,
            created=time.time(),
            others=tuple(others),
            other_seeds=shown[2:],
        )
        with self._database.write() as connection:
            insert_offer(connection, offer)
        return offer

    def offers(self, person: str | None = None, source: str | None = None) -> list[Offer]:
        """Return the pairs that nobody decided yet, oldest first.

        Args:
            person: Only this person's; None for everybody's.
            source: Only those of this source, and of its parts: "panel" also gives "panel:random".
        """
        with self._database.read() as connection:
            return read_offers(connection, person, source)

    @property
    def asked(self) -> Asked:
        """The offers with their answers, a page at a time."""
        return Asked(self._database)

    def find_offer(self, offer_id: str | None = None, comparison: int | None = None) -> Offer | None:
        """Return the offer of this id, or the one that became this comparison; None when there is none."""
        with self._database.read() as connection:
            return find_offer(connection, offer_id, comparison)

    def answer(self, offer_id: str, outcome: str, seconds: float | None = None, much: bool | None = None) -> Comparison:
        """Record the answer to an offer. A repeated click changes nothing; another outcome replaces the first.

        Args:
            offer_id: `Offer.id`, of two images.
            outcome, seconds, much: As in `Comparison`.

        Raises:
            ComparisonError: there is no such offer, no such outcome, or it is of more than two images.
        """
        check_much(much, check_outcome(outcome))
        with self._database.write() as connection:
            return answer_offer(connection, offer_id, outcome, seconds, much)

    def rank(
        self,
        offer_id: str,
        tiers: Sequence[Sequence[str]] = (),
        outcome: str = "ranked",
        seconds: float | None = None,
        much: bool | None = None,
    ) -> Ranking:
        """Record the answer to an offer of more than two images.

        A repeated answer changes nothing; another one replaces the first.

        Args:
            offer_id: `Offer.id`.
            tiers, outcome, seconds, much: As in `Ranking`.

        Raises:
            ComparisonError: there is no such offer, it is of two images, or the answer makes no sense.
        """
        with self._database.write() as connection:
            offer = offer_to_answer(connection, offer_id, many=True)
            return rank_offer(connection, offer, tiers, outcome, seconds, much)

    def answer_open(
        self,
        offer_id: str,
        outcome: str,
        tiers: Sequence[Sequence[str]] = (),
        seconds: float | None = None,
        much: bool | None = None,
    ) -> bool:
        """Record an answer only while there is none; return False where there is by now, or the offer is gone.

        For what nobody clicked, and for a click that comes late: whatever was said since stays.

        Args:
            offer_id: `Offer.id`.
            outcome: As in `Comparison`, or in `Ranking` for more than two images.
            tiers: As in `Ranking`.
            seconds, much: As in `Comparison`, or in `Ranking`.

        Raises:
            ComparisonError: the answer makes no sense.
        """
        with self._database.write() as connection:
            offer = find_offer(connection, offer_id)
            if offer is None or not offer.open:
                return False
            if offer.others:
                rank_offer(connection, offer, tiers, outcome, seconds, much)
            else:
                check_much(much, check_outcome(outcome))
                answer_offer(connection, offer_id, outcome, seconds, much)
            return True

    def withdraw(self, offer_id: str) -> bool:
        """Forget an undecided pair; return whether there was one. An answered offer stays."""
        with self._database.write() as connection:
            return delete_open_offer(connection, offer_id)
