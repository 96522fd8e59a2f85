"""One recorded choice between two images, and one pair that waits for a choice."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import ComparisonError
from .fields import MAX_NAME, MAX_PROMPT, RECORD, check_text, set_integer, set_number, short, whole_number

__all__ = [
    "OUTCOMES",
    "Comparison",
    "Offer",
    "check_images",
    "check_much",
    "check_outcome",
    "check_person",
    "check_seeds",
]

OUTCOMES = ("left", "right", "tie", "both_bad", "skip")
FEWEST, MOST = 3, 16  # images of a ranking; two are a pair


@dataclass(frozen=True)
class Comparison:
    """One answer to "which do you prefer?", as it was on screen.

    Attributes:
        person: Whose answer; any text of 1 to 4000 characters without control characters.
        left, right: Ids of two different images.
        outcome: One of `OUTCOMES`. "tie" and "both_bad" are answers, "skip" is none.
        prompt: What both images were made from; "" when unknown.
        left_seed, right_seed: Whole numbers; None when unknown.
        model: What made the images. source: Where it was answered ("panel", "comfyui", ...).
        seconds: Time to answer, >= 0; None when not measured.
        id: Given by the store. created: Seconds since 1970 UTC; given by the store when None.
        ranking: Id of the `Ranking` that implied it, given by the store; None for an answer of its own.
        much: Whether the preferred one is much better, where that could be said; None where it couldn't, or of others.

    Raises:
        ComparisonError: a field makes no sense; the message names it.
    """

    person: str
    left: str
    right: str
    outcome: str
    prompt: str = ""
    left_seed: int | None = None
    right_seed: int | None = None
    model: str = ""
    source: str = ""
    seconds: float | None = None
    id: int | None = None
    created: float | None = None
    ranking: int | None = None
    much: bool | None = None

    def __post_init__(self) -> None:
        _check_pair(self)
        check_outcome(self.outcome)
        check_much(self.much, self.outcome)
        set_number(self, "seconds", low=0.0)
        set_number(self, "created")
        set_integer(self, "id")
        set_integer(self, "ranking")

    @property
    def chosen(self) -> str | None:
        """Id of the preferred image; None when neither was."""
        return {"left": self.left, "right": self.right}.get(self.outcome)

    @property
    def rejected(self) -> str | None:
        """Id of the image that was not preferred; None when neither was preferred."""
        return {"left": self.right, "right": self.left}.get(self.outcome)


@dataclass(frozen=True)
class Offer:
    """A pair, or more images, that was shown to a person; open until it is answered. Fields as in `Comparison`.

    Attributes:
        id: A uuid as text, not guessable: who knows it was shown the images.
        comparison: Id of the answer, of a ranking its first comparison's; None while the offer is open.
        others: Ids of the third image and those after it; empty for a pair.
        other_seeds: Theirs, as many, or empty when unknown.
    """

    id: str
    person: str
    left: str
    right: str
    prompt: str = ""
    left_seed: int | None = None
    right_seed: int | None = None
    model: str = ""
    source: str = ""
    created: float | None = None
    comparison: int | None = None
    others: tuple[str, ...] = ()
    other_seeds: tuple[int | None, ...] = ()

    def __post_init__(self) -> None:
        _check_pair(self)
        object.__setattr__(self, "others", tuple(self.others))
        if self.others:
            check_images(self.images)
        object.__setattr__(self, "other_seeds", check_seeds(self.other_seeds, len(self.others)))

    @property
    def images(self) -> tuple[str, ...]:
        """Ids of all images as shown."""
        return (self.left, self.right, *self.others)

    @property
    def seeds(self) -> tuple[int | None, ...]:
        """Seeds of all images as shown."""
        return (self.left_seed, self.right_seed, *(self.other_seeds or (None,) * len(self.others)))

    @property
    def open(self) -> bool:
        """Whether nobody answered yet."""
        return self.comparison is None


def check_person(person: str, doing: str = "use this name") -> str:
    """Return the name if it can be one.

    Args:
        person: The name.
        doing: What fails without one, for the message.

    Raises:
        ComparisonError: blank, longer than 4000 characters, or with control characters.
    """
    check_text("person", person, MAX_NAME, blank=False, doing=doing)
    return person


def check_much(much: bool | None, outcome: str) -> bool | None:
    """Return whether one is much better, if that can be said of this outcome.

    Raises:
        ComparisonError: it is no yes or no, or nothing was preferred.
    """
    if much is not None and (not isinstance(much, bool) or outcome not in ("left", "right")):
        raise ComparisonError(
            f"Cannot record the comparison: much is {short(much)} of the outcome {short(outcome)}; expected true or "
            "false of left or right, else nothing."
        )
    return much


def check_outcome(outcome: str) -> str:
    """Return the outcome if it is one of `OUTCOMES`.

    Raises:
        ComparisonError: it isn't.
    """
    if outcome not in OUTCOMES:
        raise ComparisonError(
            f"Cannot record the comparison: outcome is {short(outcome)}; expected one of {', '.join(OUTCOMES)}."
        )
    return outcome


def check_images(images: tuple[str, ...]) -> None:
    """Require 3 to 16 different image ids.

    Raises:
        ComparisonError: they aren't.
    """
    for image in images:
        check_text("an image", image, MAX_NAME, blank=False)
    if not FEWEST <= len(images) <= MOST or len(set(images)) < len(images):
        found = f"{len(images)} images" if len(set(images)) == len(images) else "the same image twice"
        raise ComparisonError(
            f"Cannot record the ranking: found {found}; expected {FEWEST} to {MOST} different ones. "
            "Use a seed of its own for each."
        )


def check_seeds(seeds: Iterable[int | None], count: int) -> tuple[int | None, ...]:
    """Return the seeds as plain whole numbers of 64 bits.

    Raises:
        ComparisonError: there are neither `count` of them nor none, or one is no such number.
    """
    numbers = tuple(whole_number("a seed", seed) for seed in seeds)
    if numbers and len(numbers) != count:
        raise ComparisonError(
            f"Cannot record the ranking: found {len(numbers)} seeds for {count} images; expected one for each, or none."
        )
    return numbers


def _check_pair(pair: Comparison | Offer) -> None:
    check_person(pair.person, RECORD)
    check_text("left", pair.left, MAX_NAME, blank=False)
    check_text("right", pair.right, MAX_NAME, blank=False)
    check_text("prompt", pair.prompt, MAX_PROMPT, control=True)
    check_text("model", pair.model, MAX_NAME)
    check_text("source", pair.source, MAX_NAME)
    if pair.left == pair.right:
        raise ComparisonError(
            f"Cannot record the comparison: both sides are image {pair.left[:12]}; expected two different images. "
            "Use two seeds, one for each side."
        )
    for name in ("left_seed", "right_seed"):
        set_integer(pair, name)
