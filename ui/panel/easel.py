"""Painting what was asked for: without and with the tastes first, then what the slider may want to show."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ...adapters.errors import CancelledError, EncoderError, SteeringError
from ...adapters.steering.placement import ran_out_of_memory
from ...adapters.taste import diversity
from .blends import PERSON
from .brush import Brush
from .gallery import Gallery, Shot, Used
from .jobs import Job
from .users import DENOISER, user_of
from .variety import beside_plain, most_different
from .wish import Wish

if TYPE_CHECKING:
    from PIL import Image

    from ...adapters.ppd import User
    from ...adapters.taste import Taste
    from .blends import Blends
    from .studio import Studio

__all__ = ["Easel", "Facts"]

logger = logging.getLogger(__name__)

READ_OUT = 0.05  # between two strengths whose turn is told
STRONGEST = 2.0
PATIENCE = 0.05  # s before a picture that gave way to somebody else's is begun again


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
        gallery: Keeps what was painted.
    """

    def __init__(self, studio: Studio, blends: Blends, gallery: Gallery) -> None:
        self._studio, self._blends, self._gallery = studio, blends, gallery

    def facts(self) -> Facts:
        """What the model is; loads it on first use."""
        painter = self._studio.painter().painter
        facts = self._studio.tools.facts(painter)
        users = self._studio.tools.ppd(painter) is not None
        return replace(facts, methods=(*facts.methods, DENOISER)) if users else facts

    def paint(self, wish: Wish, person: str, job: Job) -> None:
        """Paint a wish, telling the job of every picture.

        The job's `frames` get one entry a picture: seed, strength, and the id in the gallery; its `degrees` get the
        turn of the prompt at strengths 0, 0.05, ... 2, and `variety` what the taste does to how varied they are.

        Raises:
            CancelledError: the job was stopped; pictures that are done stay.
            PreferenceError: model, tastes and settings don't fit.
        """
        job.found.update({"frames": [], "degrees": [], "asked": False, "variety": ""})
        job.tell(0.0, "Loading the model…")
        painter = self._studio.painter()
        job.tell(0.0, "Reading the tastes…")
        wish = self._without_unknown(wish, person, job)
        tastes, user = self._followed(wish, painter)
        if job.cancelled():
            raise CancelledError("Stopped.")
        brushwork = _Brushwork(self._studio, self._gallery, painter, wish, person, tastes, user, job)
        wish = brushwork.surprised()
        asked = list(_asked(wish, bool(tastes) or user is not None))
        for number, (seed, strength) in enumerate(asked):
            brushwork.frame(seed, strength, False, number, len(asked), f"Painting {_pictures(len(asked))}…")
        job.found["asked"] = True
        job.found["variety"] = brushwork.variety()
        if not tastes and user is None:
            return
        between = [strength for strength in wish.strengths() if strength not in (0.0, wish.settings.strength)]
        for number, strength in enumerate(between):
            brushwork.frame(wish.seeds[0], strength, True, number, len(between), "Getting the slider ready…")

    def _followed(self, wish: Wish, painter: Brush) -> tuple[tuple[Taste, ...], User | None]:
        """The tastes that move the prompt, or the user that moves the denoiser."""
        if not wish.denoiser:
            return self._blends.of(wish.parts), None
        return (), user_of(self._studio, wish.parts, self._studio.tools.ppd(painter.painter))

    def _without_unknown(self, wish: Wish, person: str, job: Job) -> Wish:
        """A newcomer's wish without their own taste, which nobody knows yet: they see pictures, and what to do."""
        own = f"{PERSON}{person}"
        if not any(part.source == own and part.weight for part in wish.parts) or self._studio.store.count(person):
            return wish
        job.found["note"] = "Painted without your taste, which is not known yet: compare some pictures first."
        return replace(wish, parts=tuple(part for part in wish.parts if part.source != own))


class _Brushwork:
    """One wish on its way through the model."""

    def __init__(
        self,
        studio: Studio,
        gallery: Gallery,
        painter: Brush,
        wish: Wish,
        person: str,
        tastes: tuple[Taste, ...],
        user: User | None,
        job: Job,
    ) -> None:
        self._studio, self._gallery, self._painter = studio, gallery, painter
        self._wish, self._person, self._tastes, self._job = wish, person, tastes, job
        self._facts = studio.tools.facts(painter.painter)
        self._user = user
        self._fingerprint = _fingerprint(tastes, user)
        self._painted_ahead: dict[int, tuple[Image.Image, float]] = {}  # plainly, by seed, with the seconds it took
        self._asked: dict[tuple[int, float], Image.Image] = {}

    def surprised(self) -> Wish:
        """Return the wish with the seeds whose plain pictures differ most, where it leaves something to surprise."""
        candidates, count = self._wish.candidates(), len(self._wish.seeds)
        try:
            encoder = self._studio.encoder() if len(candidates) > count else None
        except EncoderError:  # nobody can tell which differ
            encoder = None
        if encoder is None:
            return self._wish
        for number, seed in enumerate(candidates):
            self._job.tell(number / len(candidates), f"Painting {_pictures(len(candidates))} to choose from…")
            self._painted_ahead[seed] = self._timed(seed, 0.0, True, number, len(candidates))
        vectors = encoder.encode_images([image for image, _ in self._painted_ahead.values()])
        self._wish = replace(self._wish, seeds=tuple(candidates[index] for index in most_different(vectors, count)))
        return self._wish

    def variety(self) -> str:
        """Return in words how varied the pictures with the tastes are, beside those without; "" where nobody knows."""
        strength = self._wish.settings.strength
        both = [
            [self._asked[seed, one] for seed in self._wish.seeds if (seed, one) in self._asked]
            for one in (strength, 0.0)
        ]
        if strength == 0 or min(map(len, both)) < 2:
            return ""
        try:
            steered, plain = (self._studio.encoder().encode_images(images) for images in both)
        except EncoderError:
            return ""
        return beside_plain(diversity(steered, plain))

    def frame(self, seed: int, strength: float, between: bool, number: int, count: int, text: str) -> None:
        """Paint one picture, keep it, and tell of it."""
        self._job.tell(number / count, text)
        ready = self._painted_ahead.get(seed) if strength == 0 else None
        image, seconds = ready or self._timed(seed, strength, not between, number, count)
        if not between:
            self._asked[seed, strength] = image
        if strength > 0 and self._tastes and not self._job.found["degrees"]:
            self._job.found["degrees"] = self._degrees()
        shot = self._gallery.add(image, self._used(seed, strength, image), seconds, between)
        self._job.found["frames"] = [*self._job.found["frames"], _frame(seed, strength, shot)]

    def _timed(self, seed: int, strength: float, urgent: bool, number: int, count: int) -> tuple[Image.Image, float]:
        def on_step(step: int, steps: int) -> None:
            self._job.tell((number + step / max(steps, 1)) / count)

        started = time.monotonic()
        return self._painted(seed, strength, urgent, on_step), time.monotonic() - started

    def _painted(self, seed: int, strength: float, urgent: bool, on_step: Callable[[int, int], None]) -> Image.Image:
        wish = self._wish
        options: dict[str, Any] = {"settings": wish.settings, "strength": strength, "on_step": on_step}
        options["taste"] = None if strength == 0 or not self._tastes else _one_or_all(self._tastes)
        if self._user is not None and strength != 0:
            options |= {"user": self._user, "user_strength": strength}
        given = {"negative_prompt": wish.negative or None, "steps": wish.steps, "guidance": wish.guidance}
        options |= {name: value for name, value in (given | {"size": wish.size}).items() if value is not None}
        while True:
            try:
                (image,) = self._painter.images(wish.prompt, [seed], self._job.cancelled, urgent, **options)
                return image
            except CancelledError:
                if urgent or self._job.cancelled():
                    raise
                time.sleep(PATIENCE)  # it gave way to somebody who waits
            except (MemoryError, RuntimeError) as error:
                if not ran_out_of_memory(error):
                    raise
                width, height = wish.size or (self._facts.width, self._facts.height)
                raise SteeringError(
                    f"Cannot generate: {self._facts.name} ran out of memory at {width}x{height}; expected room for one "
                    "picture. Choose a smaller size under Advanced, close other programs that use the GPU, or open "
                    "the panel with --offload model."
                ) from error

    def _degrees(self) -> list[float]:
        strengths = [round(i * READ_OUT, 2) for i in range(round(STRONGEST / READ_OUT) + 1)]
        with self._painter.turn(self._job.cancelled) as model:
            moved = [
                self._studio.tools.moved(
                    model,
                    self._wish.prompt,
                    _one_or_all(self._tastes),
                    strength,
                    replace(self._wish.settings, strength=strength),
                )
                for strength in strengths
            ]
        return [] if None in moved else [round(float(degrees), 1) for degrees in moved if degrees is not None]

    def _used(self, seed: int, strength: float, image: Image.Image) -> Used:
        wish, facts, steered = self._wish, self._facts, strength > 0 and bool(self._fingerprint)
        method = DENOISER if wish.denoiser else wish.settings.method
        degrees: list[float] = self._job.found["degrees"]
        at = round(strength / READ_OUT)
        return Used(
            person=self._person,
            prompt=wish.prompt,
            negative=wish.negative,
            seed=seed,
            strength=strength if steered else 0.0,
            tastes=tuple((part.source, part.weight) for part in wish.parts if part.weight) if steered else (),
            fingerprint=self._fingerprint if steered else "",
            method=method if steered else "",
            objective=wish.settings.objective if steered else "",
            turns=wish.settings.steps if steered else 0,
            limit=wish.settings.limit if steered else 0.0,
            model=facts.name,
            steps=wish.steps or facts.steps,
            guidance=facts.guidance if wish.guidance is None else wish.guidance,
            width=image.width,
            height=image.height,
            degrees=degrees[at] if steered and at < len(degrees) else None,
        )


def _asked(wish: Wish, steered: bool) -> Iterator[tuple[int, float]]:
    for seed in wish.seeds:
        yield seed, 0.0
        if steered and wish.settings.strength > 0:
            yield seed, wish.settings.strength


def _frame(seed: int, strength: float, shot: Shot) -> dict[str, Any]:
    return {
        "seed": str(seed),
        "strength": strength,
        "id": shot.id,
        "width": shot.used.width,
        "height": shot.used.height,
    }


def _one_or_all(tastes: tuple[Taste, ...]) -> Any:
    return tastes[0] if len(tastes) == 1 else tastes


def _fingerprint(tastes: tuple[Taste, ...], user: User | None) -> str:
    digest = hashlib.sha256()
    if user is not None:
        digest.update(user.ppd.encode() + user.tokens.detach().cpu().float().numpy().tobytes())
    for taste in tastes:
        digest.update(taste.encoder.encode() + taste.weights.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()[:16] if tastes or user is not None else ""


def _pictures(number: int) -> str:
    return "1 picture" if number == 1 else f"{number} pictures"
