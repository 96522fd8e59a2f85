"""One answer over three or more images: the best of them, or their order."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

from ..errors import ComparisonError
from .comparison import Comparison, check_images, check_person, check_seeds
from .fields import MAX_NAME, MAX_PROMPT, check_text, set_integer, set_number, short

__all__ = ["RANKING_OUTCOMES", "Ranking", "check_tiers"]

RANKING_OUTCOMES = ("ranked", "both_bad", "skip")
_DOING = "record the ranking"


@dataclass(frozen=True)
class Ranking:
    """One answer to "which is the best?" or "in which order?", as it was on screen.

    Attributes:
        person: Whose answer, as in `Comparison`.
        images: Ids of 3 to 16 different images, as shown.
        tiers: Ids by tier, the best tier first, every image in exactly one. Images of one tier are not ordered among
            themselves: `((best,), (a, b, c))` is the best of four. One tier of all says that all are equally good.
        outcome: "ranked"; "both_bad" when none is good, "skip" when there was no answer: then there are no tiers.
        prompt, model, source, seconds, id, created: As in `Comparison`.
        seeds: One for each image, None where unknown; or empty.
        much: Whether the best, alone in its tier, is much better than all others, where that could be said; else None.

    Raises:
        ComparisonError: a field makes no sense; the message names it.
    """

    person: str
    images: tuple[str, ...]
    tiers: tuple[tuple[str, ...], ...] = ()
    outcome: str = "ranked"
    prompt: str = ""
    seeds: tuple[int | None, ...] = ()
    model: str = ""
    source: str = ""
    seconds: float | None = None
    id: int | None = None
    created: float | None = None
    much: bool | None = None

    def __post_init__(self) -> None:
        check_person(self.person, _DOING)
        object.__setattr__(self, "images", tuple(self.images))
        check_images(self.images)
        object.__setattr__(self, "tiers", check_tiers(self.images, self.tiers, self.outcome))
        object.__setattr__(self, "seeds", check_seeds(self.seeds, len(self.images)))
        check_text("prompt", self.prompt, MAX_PROMPT, control=True, doing=_DOING)
        check_text("model", self.model, MAX_NAME, doing=_DOING)
        check_text("source", self.source, MAX_NAME, doing=_DOING)
        set_number(self, "seconds", low=0.0)
        set_number(self, "created")
        set_integer(self, "id")
        if self.much is not None and not (isinstance(self.much, bool) and self.best is not None):
            raise ComparisonError(
                f"Cannot {_DOING}: much is {short(self.much)} with tiers {short(self.tiers)}; expected true or false, "
                "and one image before all others."
            )

    @property
    def best(self) -> str | None:
        """Id of the image that was preferred to all others; None where there is no such one."""
        return self.tiers[0][0] if len(self.tiers) > 1 and len(self.tiers[0]) == 1 else None

    def implied(self) -> tuple[Comparison, ...]:
        """Return the comparisons that this answer implies, in the order of the images as shown.

        Of "ranked": every pair of images of different tiers; all pairs as ties where there is one tier only. Of
        "both_bad" and "skip": every pair with that outcome. Those with the best one say how much, if it was said.
        """
        place = {image: number for number, tier in enumerate(self.tiers) for image in tier}
        seeds = self.seeds or (None,) * len(self.images)
        found = []
        for (left, left_seed), (right, right_seed) in combinations(zip(self.images, seeds, strict=True), 2):
            outcome = self.outcome
            if outcome == "ranked":
                if place[left] == place[right] and len(self.tiers) > 1:
                    continue
                outcome = "tie" if place[left] == place[right] else "left" if place[left] < place[right] else "right"
            found.append(
                Comparison(
                    person=self.person,
                    left=left,
                    right=right,
                    outcome=outcome,
                    prompt=self.prompt,
                    left_seed=left_seed,
                    right_seed=right_seed,
                    model=self.model,
                    source=self.source,
                    seconds=self.seconds,
                    created=self.created,
                    ranking=self.id,
                    much=self.much if self.best in (left, right) else None,
                )
            )
        return tuple(found)


def check_tiers(images: tuple[str, ...], tiers: object, outcome: str) -> tuple[tuple[str, ...], ...]:
    """Return the tiers, each in the order of the images as shown.

    Raises:
        ComparisonError: an unknown outcome; tiers that are no partition of the images, or tiers without "ranked".
    """
    if outcome not in RANKING_OUTCOMES:
        raise ComparisonError(
            f"Cannot {_DOING}: outcome is {short(outcome)}; expected one of {', '.join(RANKING_OUTCOMES)}."
        )
    given: list[list[str]] = []
    if isinstance(tiers, (tuple, list)) and all(isinstance(tier, (tuple, list)) for tier in tiers):
        given = [list(tier) for tier in tiers]
        wanted = sorted(images) if outcome == "ranked" else []
        placed = [image for tier in given for image in tier]
        if all(given) and all(isinstance(image, str) for image in placed) and sorted(placed) == wanted:
            return tuple(tuple(image for image in images if image in tier) for tier in given)
    expected = "every image shown in exactly one tier" if outcome == "ranked" else f"none with {outcome!r}"
    raise ComparisonError(f"Cannot {_DOING}: tiers are {short(tiers)}; expected {expected}, the best tier first.")
