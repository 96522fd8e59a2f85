"""Painting what was asked for: without and with the tastes first, then what triangle and slider may want to show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ...adapters.errors import CancelledError, EncoderMismatchError, NotEnoughAnswersError, PPDError
from ..whose import PROMPT_STRENGTH
from .blends import PERSON
from .brush import Brush
from .brushwork import Brushwork, Followed
from .gallery import Gallery
from .jobs import Job
from .users import DENOISER, user_of
from .wish import Wish

if TYPE_CHECKING:
    from .blends import Blends
    from .liked_words import LikedWords
    from .studio import Studio
    from .tastes import UserFiles

__all__ = ["Easel", "Facts"]


@dataclass(frozen=True)
class Facts:
    """What a model is, and what it is sampled with where nothing else is said.

    Attributes:
        methods: Ways of steering that it knows, "auto" first.
    """

    name: str
    methods: tuple[str, ...]
    steps: int
    guidance: float
    width: int
    height: int


class Easel:
    """Paints wishes into the gallery.

    Args:
        studio: Gives the model.
        blends: Adds tastes up.
        users: The shelf of user files.
        words: What tastes say in words, and of pictures.
        gallery: Keeps what was painted.
    """

    def __init__(self, studio: Studio, blends: Blends, users: UserFiles, words: LikedWords, gallery: Gallery) -> None:
        self._studio, self._blends, self._users = studio, blends, users
        self._words, self._gallery = words, gallery

    def facts(self) -> Facts:
        """What the model is; loads it on first use."""
        painter = self._studio.painter().painter
        facts = self._studio.tools.facts(painter)
        users = self._studio.tools.ppd(painter) is not None
        return replace(facts, methods=(*facts.methods, DENOISER)) if users else facts

    def paint(self, wish: Wish, person: str, job: Job) -> None:
        """Paint a wish, telling the job of every picture.

        The job's `frames` get one entry a picture: seed, strength, and the id in the gallery, and weights where they
        are others than the wish's own; its `degrees` get the turn of the prompt at strengths 0, 0.05, ... 2, and
        `variety` what the taste does to how varied they are; `given` what else the answers gave.

        Raises:
            CancelledError: the job was stopped; pictures that are done stay.
            PreferenceError: model, tastes and settings don't fit.
        """
        job.found.update({"frames": [], "degrees": [], "asked": False, "variety": "", "given": ""})
        job.tell(0.0, "Loading the model…")
        painter = self._studio.painter()
        job.tell(0.0, "Reading the tastes…")
        wish = self._without_unknown(wish, person, job)
        wish = replace(wish, added=self._words.liked(wish.prompt, wish.parts, wish.words))
        wish, followed = self._told(wish, painter, job)
        if job.cancelled():
            raise CancelledError("Stopped.")
        brushwork = Brushwork(self._studio, self._gallery, painter, wish, person, followed, job)
        judge = self._words.judge(wish.parts) if wish.best > 1 and followed.any else None
        wish = brushwork.surprised() if judge is None else brushwork.best(*judge)
        job.found["given"] = _given(wish, judge is not None)
        asked = list(_asked(wish, followed.any))
        for number, (seed, strength) in enumerate(asked):
            brushwork.frame(seed, strength, False, number, len(asked), f"Painting {_pictures(len(asked))}…")
        job.found["asked"] = True
        job.found["variety"] = brushwork.variety()
        if not followed.any:
            return
        self._blended(wish, brushwork, painter, job)
        between = [strength for strength in wish.strengths() if strength not in (0.0, wish.settings.strength)]
        for number, strength in enumerate(between):
            brushwork.frame(wish.seeds[0], strength, True, number, len(between), "Getting the slider ready…")

    def _blended(self, wish: Wish, brushwork: Brushwork, painter: Brush, job: Job) -> None:
        """Paint the first seed with other weights, so that they can be tried without waiting."""
        for number, weights in enumerate(wish.blends):
            other = wish.weighed(weights)
            with_these = brushwork.following(other, self._followed(other, painter))
            with_these.frame(
                wish.seeds[0],
                wish.settings.strength,
                True,
                number,
                len(wish.blends),
                "Getting the triangle ready…",
                weights,
            )
            if job.cancelled():
                raise CancelledError("Stopped.")

    def _told(self, wish: Wish, painter: Brush, job: Job) -> tuple[Wish, Followed]:
        """The wish, and what it follows; a PPD may read people by profiles, by name or with another encoder."""
        try:
            return wish, self._followed(wish, painter)
        except (EncoderMismatchError, NotEnoughAnswersError, PPDError):
            if not (wish.denoiser and wish.fallback):
                raise
        wish = replace(wish, denoiser=False, settings=replace(wish.settings, strength=PROMPT_STRENGTH))
        job.found["strength"] = PROMPT_STRENGTH  # the page's slider follows
        return wish, self._followed(wish, painter)

    def _followed(self, wish: Wish, painter: Brush) -> Followed:
        """The tastes that move the prompt, or the user that moves the denoiser."""
        if not wish.denoiser:
            return Followed(self._blends.of(wish.parts))
        return Followed((), user_of(self._studio, self._users, wish.parts, self._studio.tools.ppd(painter.painter)))

    def _without_unknown(self, wish: Wish, person: str, job: Job) -> Wish:
        """A newcomer's wish without their own taste, which nobody knows yet: they see pictures, and what to do."""
        own = f"{PERSON}{person}"
        if not any(part.source == own and part.weight for part in wish.parts) or self._studio.store.count(person):
            return wish
        job.found["note"] = "Painted without your taste, which is not known yet: compare some pictures first."
        return replace(wish, parts=tuple(part for part in wish.parts if part.source != own), blends=())


def _given(wish: Wish, chosen: bool) -> str:
    """In words what the answers gave beside what the page shows anyway; "" for nothing."""
    found = [f"adds “{', '.join(wish.added)}”"] if wish.added else []
    found += ["tells the denoiser"] if wish.words and wish.denoiser and any(part.weight for part in wish.parts) else []
    found += [f"takes the best of {wish.best}"] if chosen else []
    return f"Your taste {' and '.join((', '.join(found[:-1]), found[-1]) if found[1:] else found)}." if found else ""


def _asked(wish: Wish, steered: bool) -> Iterator[tuple[int, float]]:
    for seed in wish.seeds:
        if wish.plain or not steered:
            yield seed, 0.0
        if steered and wish.settings.strength > 0:
            yield seed, wish.settings.strength


def _pictures(number: int) -> str:
    return "1 picture" if number == 1 else f"{number} pictures"
