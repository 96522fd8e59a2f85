"""The store of all comparisons: a folder with `store.sqlite` and `images/`, shared by every host on the machine."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..errors import ComparisonError, ImageError, StoreError
from ..places import typed_path
from .answering import answer_offer, change_answer, delete_answer, undo_answer
from .asked import Asked
from .comparison import Comparison, Offer, check_much, check_outcome, check_person, check_seeds
from .database import Database
from .folder import ImageFolder, make_folder
from .images import encode_png, pixel_hash, read_image
from .people import PersonAnswers, count_answers, forget_person, people, people_answers, rename_person
from .ranking import Ranking
from .rankings import insert_ranking, rank_offer
from .reading import newest_comparisons, read_comparisons, read_offers, read_rankings, read_revision
from .rows import find_offer, insert_comparison, insert_offer, offer_to_answer
from .vectors import KnownEncoder, count_vectors, first_vectors, known_encoders, read_vectors, write_vectors

__all__ = ["PreferenceStore"]


class PreferenceStore:
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
        self.path = typed_path(path).absolute()
        self._images = ImageFolder(self.path / "images")
        try:
            make_folder(self._images.folder)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise StoreError(
                f"Cannot open the store {self.path}: {reason}; expected a folder that can be written. "
                "Choose another folder."
            ) from error
        self._database = Database(self.path / "store.sqlite")
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

    def close(self) -> None:
        """Close the file; nothing is lost without it, and closing twice does nothing."""
        self._database.close()

    # Images

    def add_image(self, image: Any) -> str:
        """Keep a picture and return its id: the sha256 of its PNG file. The same pixels give the same id.

        Args:
            image: A PIL image of any mode, a path, or an (H, W, 3) array or tensor of floats in [0, 1].

        Raises:
            ImageError: it can't be read, is too large, or holds NaN.
        """
        rgb = read_image(image)
        pixels = pixel_hash(rgb)
        with self._database.read() as connection:
            row = connection.execute("SELECT id FROM images WHERE pixels = ?", (pixels,)).fetchone()
        if row and self._images.holds(row[0]):
            return str(row[0])
        data = encode_png(rgb)
        # A picture that was lost or damaged from outside comes back under the id that comparisons know.
        image_id = str(row[0]) if row else hashlib.sha256(data).hexdigest()
        self._images.write(image_id, data)
        with self._database.write() as connection:
            # Another Pillow may have encoded the same pixels to other bytes: the first id stays.
            connection.execute(
                "INSERT OR IGNORE INTO images (id, pixels, width, height, created) VALUES (?, ?, ?, ?, ?)",
                (image_id, pixels, rgb.width, rgb.height, time.time()),
            )
            row = connection.execute("SELECT id FROM images WHERE pixels = ?", (pixels,)).fetchone()
        return str(row[0])

    def has_image(self, image_id: str) -> bool:
        """Return whether the picture itself is here; False for what is no id."""
        with contextlib.suppress(ImageError):
            return self._images.path(image_id).is_file()
        return False

    def image_path(self, image_id: str) -> Path:
        """Return the PNG file of an image.

        Raises:
            ImageError: the id is none, or its picture isn't here.
        """
        file = self._images.path(image_id)
        if not file.is_file():
            raise ImageError(
                f"Cannot find image {image_id[:12]}…: it isn't in {self._images.folder}; expected one that was added. "
                "Add the picture again."
            )
        return file

    def image(self, image_id: str) -> Image.Image:
        """Return the picture as RGB.

        Raises:
            ImageError: the id is none, its picture isn't here, or the file was damaged.
        """
        return read_image(self.image_path(image_id))

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
        """Keep a pair for this person to decide, now or later; fields as in `Comparison`.

        Args:
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

    def offers(self, person: str | None = None, open_only: bool = True, source: str | None = None) -> list[Offer]:
        """Return the pairs that were offered, oldest first.

        Args:
            person: Only this person's; None for everybody's.
            open_only: Only the undecided ones.
            source: Only those of this source, and of its parts: "panel" also gives "panel:random".
        """
        with self._database.read() as connection:
            return read_offers(connection, person, open_only, source)

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

        `much` as in `Comparison`.

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
    ) -> Ranking:
        """Record the answer to an offer of more than two images; tiers and outcome as in `Ranking`.

        A repeated answer changes nothing; another one replaces the first.

        Raises:
            ComparisonError: there is no such offer, it is of two images, or the answer makes no sense.
        """
        with self._database.write() as connection:
            offer = offer_to_answer(connection, offer_id, many=True)
            return rank_offer(connection, offer, tiers, outcome, seconds)

    def withdraw(self, offer_id: str) -> bool:
        """Forget an undecided pair; return whether there was one. An answered offer stays."""
        with self._database.write() as connection:
            return (
                connection.execute("DELETE FROM offers WHERE id = ? AND comparison IS NULL", (offer_id,)).rowcount > 0
            )

    # Vectors

    def vectors(self, encoder: str, ids: Sequence[str]) -> dict[str, npt.NDArray[np.float32]]:
        """Return the cached vectors (D,) float32 of these images for one encoder; images without one are absent.

        Args:
            encoder: The encoder's identity. Vectors of two identities never meet.
        """
        with self._database.read() as connection:
            return read_vectors(connection, encoder, ids)

    def count_vectors(self, encoder: str) -> int:
        """Return how many images have a cached vector of this encoder."""
        with self._database.read() as connection:
            return count_vectors(connection, encoder)

    def first_vectors(self, encoder: str, count: int) -> npt.NDArray[np.float32]:
        """Return up to `count` vectors (M, D) float32 of this encoder, those that were cached first."""
        with self._database.read() as connection:
            return first_vectors(connection, encoder, count)

    def put_vectors(self, encoder: str, vectors: Mapping[str, Any]) -> None:
        """Cache vectors (D,) by image id for one encoder, all or none; a cached one is replaced.

        Raises:
            ShapeError: NaN, infinity, not (D,), or another D than this encoder's vectors have.
        """
        with self._database.write() as connection:
            write_vectors(connection, encoder, vectors)

    def encoders(self, person: str) -> list[KnownEncoder]:
        """Return the encoders that have vectors of images which this person compared, who has most first."""
        with self._database.read() as connection:
            return known_encoders(connection, person)
