"""Other people's answers into the store: each once, with what their pictures say of themselves."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from ..comparisons import Comparison, PreferenceStore, Ranking
from ..errors import ComparisonError, ImageError
from .foreign import Foreign, Lost, Picture
from .picture_facts import PictureFacts, facts_of_picture

__all__ = ["NAMELESS", "Imported", "import_answers", "opened"]

NAMELESS = "imported"  # whose answers are that a source gives to nobody
SOURCE = "import"
SHOWN = 20  # reasons that are kept
_NOTHING = PictureFacts()


@dataclass
class Imported:
    """What became of a source.

    Attributes:
        added: Answers that are in the store now. doubled: Those that had been there before.
        lost: Rows that could not be used. why: The first of them, with the reason.
        people: Whose they are.
    """

    added: int = 0
    doubled: int = 0
    lost: int = 0
    why: list[Lost] = field(default_factory=list)
    people: set[str] = field(default_factory=set)

    def lose(self, one: Lost) -> None:
        """Count a row that can't be used."""
        self.lost += 1
        if len(self.why) < SHOWN:
            self.why.append(one)


def import_answers(
    store: PreferenceStore,
    answers: Iterable[Foreign | Lost],
    person: str = "",
    prompt: str = "",
    on_answer: Callable[[Imported], None] | None = None,
) -> Imported:
    """Put answers into the store; the same source a second time adds nothing.

    Args:
        store: Where to.
        answers: As `read_source` yields them.
        person: Whose they are; "" is as the source says, or "imported" where it doesn't.
        prompt: Where neither the source nor its pictures say.
        on_answer: Called after each row; may raise to stop, and what was added stays.

    Raises:
        StoreError: the disk is full or can't be written; what was added stays.
    """
    found, known = Imported(), dict[str, set[object]]()
    for number, answer in enumerate(answers, 1):
        if isinstance(answer, Lost):
            found.lose(answer)
        else:
            who = person or answer.person or NAMELESS
            try:
                record = _record(store, answer, who, prompt)
                if who not in known:
                    known[who] = _keys(store, who)
                key = _key(record)
                if key in known[who]:
                    found.doubled += 1
                else:
                    known[who].add(key)
                    store.add(record) if isinstance(record, Comparison) else store.add_ranking(record)
                    found.added += 1
                    found.people.add(who)
            except (ImageError, ComparisonError) as error:
                found.lose(Lost(f"answer {number}", str(error)))
        if on_answer is not None:
            on_answer(found)
    return found


def _record(store: PreferenceStore, answer: Foreign, person: str, prompt: str) -> Comparison | Ranking:
    facts = [_facts(one) for one in answer.images]
    images = tuple(store.add_image(opened(one)) for one in answer.images)
    said = answer.prompt or _common([one.prompt for one in facts]) or prompt
    model, seeds = answer.model or _common([one.model for one in facts]), [one.seed for one in facts]
    if len(images) == 2:
        left, right = (told if told is not None else own for told, own in zip(answer.seeds, seeds, strict=True))
        return Comparison(person, *images, answer.outcome, said, left, right, model, SOURCE, much=answer.much)
    tiers = tuple(tuple(images[place] for place in tier) for tier in answer.tiers)
    return Ranking(person, images, tiers, "ranked", said, tuple(seeds), model, SOURCE)


def opened(picture: Picture) -> Any:
    """What `read_image` takes of a picture: its path, or a PIL image of its bytes.

    Raises:
        ImageError: bytes that are no picture.
    """
    if isinstance(picture, Path):
        return picture
    try:
        return Image.open(io.BytesIO(picture))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImageError(
            f"Cannot read a picture of {len(picture):,} bytes: {error}; expected PNG, JPEG or WebP."
        ) from (error)


def _facts(picture: Picture) -> PictureFacts:
    return facts_of_picture(picture) if isinstance(picture, Path) else _NOTHING


def _common(texts: list[str]) -> str:
    """What all say, if they say the same."""
    return texts[0] if len(set(texts)) == 1 else ""


def _keys(store: PreferenceStore, person: str) -> set[object]:
    pairs = {_key(one) for one in store.comparisons(person) if one.ranking is None}
    return pairs | {_key(one) for one in store.rankings(person)}


def _key(record: Comparison | Ranking) -> object:
    """What makes two answers the same one: the images, what was said of them, and the prompt."""
    if isinstance(record, Ranking):
        return frozenset(record.images), tuple(frozenset(tier) for tier in record.tiers), record.prompt
    return frozenset((record.left, record.right)), record.chosen, record.prompt
