"""What was asked for under Generate, checked where it comes in from the browser."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ...adapters.errors import SteeringError
from ...adapters.steering import SteeringSettings
from ...adapters.taste import MOST_WORDS
from .blends import Part
from .users import DENOISER

__all__ = ["LONGEST_PROMPT", "Wish", "parts_of"]

MOST_SEEDS = 8
MOST_BLENDS = 16
MOST_BEST = 8
LARGEST_SEED = 2**64 - 1
LONGEST_PROMPT = 100_000  # characters, as the store takes
STRENGTHS = (0.0, 0.5, 1.0, 1.5, 2.0)  # that the slider has pictures of
EXTRA = 2  # times as many seeds again that full surprise chooses from
LARGEST_SIDE, MOST_STEPS, MOST_GUIDANCE = 2048, 200, 50.0


@dataclass(frozen=True)
class Wish:
    """One request for pictures.

    Attributes:
        prompt, negative: What to show, and what not.
        seeds: One picture each; the first is the one on the screen.
        parts: Tastes with weights; none paints plainly.
        settings: How to steer; its strength is the one asked for.
        denoiser: The parts are users of a PPD, and the prompt stays as it is.
        fallback: Where the PPD can make no users of the parts, the prompt is moved after all.
        plain: Paint the seeds without the tastes, too; a page may have these pictures already.
        blends: Other weights of the parts, in their order, to paint the first seed with.
        words: Liked ones to add to the prompt where the tastes have a say, at most.
        added: Those that were found.
        best: So many are painted for each picture, and the one that the tastes like best is taken.
        steps, guidance, size: None takes the model's own; size is (width, height) in pixels.
        surprise: 0 paints these seeds; above, more are painted plainly, up to three times as many at 1, and those that
            differ most are taken, the first seed among them.

    Raises:
        SteeringError: something can't be used; all faults are named.
    """

    prompt: str
    negative: str = ""
    seeds: tuple[int, ...] = (1,)
    parts: tuple[Part, ...] = ()
    settings: SteeringSettings = field(default_factory=SteeringSettings)
    steps: int | None = None
    guidance: float | None = None
    size: tuple[int, int] | None = None
    surprise: float = 0.0
    denoiser: bool = False
    fallback: bool = False
    plain: bool = True
    blends: tuple[tuple[float, ...], ...] = ()
    words: int = 0
    added: tuple[str, ...] = ()
    best: int = 1

    def __post_init__(self) -> None:
        faults = []
        if not self.prompt.strip():
            faults.append("the prompt is empty; expected at least one word")
        if max(len(self.prompt), len(self.negative)) > LONGEST_PROMPT:
            faults.append(f"the prompt has over {LONGEST_PROMPT:,} characters; expected fewer")
        if not 1 <= len(self.seeds) <= MOST_SEEDS:
            faults.append(f"{len(self.seeds)} seeds; expected 1 to {MOST_SEEDS}")
        if any(not 0 <= seed <= LARGEST_SEED for seed in self.seeds):
            wrong = next(seed for seed in self.seeds if not 0 <= seed <= LARGEST_SEED)
            faults.append(f"seed {wrong}; expected 0 to {LARGEST_SEED:,}")
        if self.steps is not None and not 1 <= self.steps <= MOST_STEPS:
            faults.append(f"{self.steps} steps; expected 1 to {MOST_STEPS}")
        if self.guidance is not None and not 0 <= self.guidance <= MOST_GUIDANCE:
            faults.append(f"guidance {self.guidance:g}; expected 0 to {MOST_GUIDANCE:g}")
        if self.size is not None and any(side % 8 or not 8 <= side <= LARGEST_SIDE for side in self.size):
            faults.append(f"{self.size[0]}x{self.size[1]} pixels; expected multiples of 8 up to {LARGEST_SIDE}")
        if not 0 <= self.surprise <= 1:
            faults.append(f"surprise {self.surprise:g}; expected 0 to 1")
        if not 0 <= self.words <= MOST_WORDS:
            faults.append(f"{self.words} words; expected 0 to {MOST_WORDS}")
        if not 1 <= self.best <= MOST_BEST:
            faults.append(f"the best of {self.best}; expected 1 to {MOST_BEST}")
        if len(self.blends) > MOST_BLENDS or any(len(weights) != len(self.parts) for weights in self.blends):
            faults.append(f"{len(self.blends)} blends; expected at most {MOST_BLENDS}, a weight for each taste")
        if faults:
            raise SteeringError(f"Cannot generate: {'; '.join(faults)}. Change it and try again.")

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> Wish:
        """Return the wish that a page sent.

        Raises:
            SteeringError: something is missing, of another kind, or can't be used.
        """
        size, method = body.get("size"), _text(body, "method", "auto")
        settings = {
            "method": "auto" if method == DENOISER else method,
            "objective": _text(body, "objective", "bradley_terry"),
            "strength": _number(body, "strength", 1.0),
            "limit": _number(body, "limit", 60.0),
        }
        if body.get("turns") is not None:
            settings["steps"] = _whole(body, "turns")
        return cls(
            prompt=_text(body, "prompt").strip(),
            negative=_text(body, "negative").strip(),
            seeds=tuple(dict.fromkeys(_whole({"seed": seed}, "seed") for seed in _list(body, "seeds") or [1])),
            parts=parts_of(body),
            settings=SteeringSettings(**settings),  # type: ignore[arg-type]
            steps=None if body.get("steps") is None else _whole(body, "steps"),
            guidance=_number(body, "guidance"),
            size=None if size is None else _size(size),
            surprise=_number(body, "surprise", 0.0) or 0.0,
            denoiser=method == DENOISER,
            fallback=body.get("fallback") is True,
            plain=body.get("plain") is not False,
            blends=tuple(_weights(one) for one in _list(body, "blends")),
            words=_whole({"words": body.get("words", 0)}, "words"),
            best=_whole({"best": body.get("best", 1)}, "best"),
        )

    def candidates(self) -> tuple[int, ...]:
        """Seeds to choose from: those asked for, and as many that follow as the wish for surprise allows."""
        extra = round(EXTRA * self.surprise * len(self.seeds)) if len(self.seeds) > 1 else 0
        follow = ((max(self.seeds) + 1 + number) % (LARGEST_SEED + 1) for number in range(extra))
        return tuple(dict.fromkeys((*self.seeds, *follow)))

    def draws(self) -> tuple[tuple[int, ...], ...]:
        """Seeds that each picture is the best of, one after the other from the first seed on."""
        first, best = self.seeds[0], self.best
        starts = range(first, first + best * len(self.seeds), best)
        return tuple(tuple((start + place) % (LARGEST_SEED + 1) for place in range(best)) for start in starts)

    def weighed(self, weights: Sequence[float]) -> Wish:
        """Return the same wish with these weights of its parts."""
        parts = [replace(part, weight=weight) for part, weight in zip(self.parts, weights, strict=True)]
        return replace(self, parts=tuple(parts), blends=())

    def strengths(self) -> tuple[float, ...]:
        """Strengths to paint, in this order: none, the one asked for, then those between for the slider."""
        if not any(part.weight for part in self.parts):
            return (0.0,)
        return tuple(dict.fromkeys((0.0, self.settings.strength, *STRENGTHS)))


def parts_of(body: Mapping[str, Any]) -> tuple[Part, ...]:
    """Return the tastes with their weights that a page sent.

    Raises:
        SteeringError: something is of another kind, or can't be used.
    """
    return tuple(
        Part(_text(part, "source"), float(_number(part, "weight", 1.0) or 0.0)) for part in _list(body, "tastes")
    )


def _text(body: Mapping[str, Any], key: str, default: str = "") -> str:
    value = body.get(key, default)
    if not isinstance(value, str):
        raise SteeringError(f"Cannot generate: {key} is {_shown(value)}; expected text. Type it again.")
    return value


def _number(body: Mapping[str, Any], key: str, default: float | None = None) -> float | None:
    value = body.get(key, default)
    if value is None:
        return default
    try:
        number = math.nan if isinstance(value, bool) or not isinstance(value, (int, float)) else float(value)
    except OverflowError:  # a whole number of hundreds of digits
        number = math.inf
    if not math.isfinite(number):
        raise SteeringError(f"Cannot generate: {key} is {_shown(value)}; expected a number. Type it again.")
    return number


def _whole(body: Mapping[str, Any], key: str) -> int:
    value = body.get(key)
    # Seeds of 64 bits come as text: a browser's numbers are exact up to 2^53 only.
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d{1,40}\s*", value):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise SteeringError(f"Cannot generate: {key} is {_shown(value)}; expected a whole number. Type it again.")
    return value


def _list(body: Mapping[str, Any], key: str) -> Sequence[Any]:
    value = body.get(key) or []
    inner = {"seeds": str | int | float, "blends": list}.get(key, dict)
    if not isinstance(value, list) or not all(isinstance(one, inner) for one in value):
        raise SteeringError(f"Cannot generate: {key} are {_shown(value)}; expected a list. Choose them again.")
    return value


def _weights(values: Sequence[Any]) -> tuple[float, ...]:
    return tuple(_number({"weight": value}, "weight", 0.0) or 0.0 for value in values)


def _size(value: Any) -> tuple[int, int]:
    sides = value if isinstance(value, list) else [value, value]
    if len(sides) != 2:
        raise SteeringError(f"Cannot generate: size is {_shown(value)}; expected width and height. Type it again.")
    return _whole({"size": sides[0]}, "size"), _whole({"size": sides[1]}, "size")


def _shown(value: Any) -> str:
    return repr(value)[:60]
