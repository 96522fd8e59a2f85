"""What a training did to the pictures, judged by the true utility of a person.

Shapes: K prompts, N answers, F features that people may care for.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..playground.captions import named_in
from ..playground.people import FEATURES, Person
from ._painter import Seen
from ._postcards import Answers, Postcards, answered, calibrated_on
from ._tables import Array
from ._tuning import Tuned, Workshop
from ._votes import Outcome, prompt_kept, wins

__all__ = ["Gain", "furthest", "gain_of", "judged", "kept_of", "planted_utility"]

_CARED = ("sticker", "frame", "shading", "brightness", "colourfulness")  # what no caption names
_DIVERSE = 3  # seeds that diversity is looked at over
_KEEPING = 0.9  # of what the base keeps


@dataclass(frozen=True)
class Gain:
    """What a training did to the pictures, judged by a person's true utility.

    Attributes:
        gain: Mean over prompts, in standard deviations of that utility over the base's pictures.
        wins: Share of prompts whose picture is preferred to the base's of the same seed; an even one counts half.
        kept: Share of prompts kept, over the base's.
        diversity: Mean distance of measured features between seeds of one prompt, over the base's; NaN: not looked at.
    """

    gain: float
    wins: float
    kept: float
    diversity: float = float("nan")


def judged(seen: Seen, prompts: Sequence[str], rate: Callable[[Seen], Array]) -> Outcome:
    """What a judge says of pictures of prompts; utility and kept are (1, K) each."""
    return Outcome(np.asarray(rate(seen))[None], kept_of(seen, prompts)[None])


def kept_of(seen: Seen, prompts: Sequence[str]) -> Array:
    """(K,) 1 where all that the prompt names and that was read is right, else 0."""
    kept = [
        all(found[name] == value for name, value in named_in(prompt).items() if name in found)
        for prompt, found in zip(prompts, seen.named, strict=True)
    ]
    return np.array(kept, dtype=np.float64)


def planted_utility(cards: Postcards, pairs: int, seed: int) -> tuple[Person, Answers]:
    """A utility over what captions don't name, and the answers of people who all share it."""
    rng = random.Random(f"planted/{seed}")
    weights = np.array([rng.gauss(0.0, 1.0) if name in _CARED else 0.0 for name in FEATURES])
    person = calibrated_on(Person(f"utility {seed}", weights), cards)
    return person, answered(person, cards, pairs, rng)


def furthest(found: Mapping[float, tuple[float, float]], base: float = 1.0) -> float:
    """The rate that goes furthest while nine tenths of the base's prompts are kept.

    Args:
        found: For each rate how far it goes, in any unit, and the share of prompts kept.
        base: Share of prompts that the base keeps.

    Returns:
        One of the rates; where none keeps enough, the one that keeps most.
    """
    enough = [rate for rate, (_, kept) in found.items() if kept >= _KEEPING * base]
    if enough:
        return max(enough, key=lambda rate: found[rate][0])
    return max(found, key=lambda rate: found[rate][1])


def gain_of(workshop: Workshop, tuned: Tuned, person: Person, diverse: int = 0) -> Gain:
    """Judge a training's pictures beside the base's.

    Args:
        diverse: Prompts over which diversity is looked at; 0 leaves it out.
    """

    def rate(seen: Seen) -> Array:
        return np.array([person.utility(row) for row in seen.features])

    base, found = (judged(seen, workshop.prompts, rate) for seen in (workshop.base(), workshop.look(tuned)))
    spread = float(base.utility.std()) or 1.0
    diversity = float("nan")
    if diverse:
        apart = [
            _apart(seen, diverse)
            for seen in (workshop.base(_DIVERSE, diverse), workshop.look(tuned, _DIVERSE, diverse))
        ]
        diversity = apart[1] / apart[0]
    gain = float((found.utility - base.utility).mean()) / spread
    return Gain(gain, float(wins(found.utility, base.utility)[0]), prompt_kept(found, base), diversity)


def _apart(seen: Seen, prompts: int) -> float:
    """Mean distance between pictures of one prompt; the rows are all prompts of one seed after the other."""
    x = seen.features.reshape(-1, prompts, seen.features.shape[1])
    first, second = np.triu_indices(len(x), 1)
    return float(np.linalg.norm(x[first] - x[second], axis=2).mean())
