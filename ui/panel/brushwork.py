"""One wish on its way through the model: every picture painted, kept, and told of."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ...adapters.errors import CancelledError, EncoderError, SteeringError
from ...adapters.steering.placement import ran_out_of_memory
from ...adapters.taste import diversity
from .brush import Brush
from .gallery import Gallery
from .jobs import Job
from .shot import Shot, Used, in_one
from .users import DENOISER
from .variety import beside_plain, most_different
from .wish import Wish

if TYPE_CHECKING:
    from PIL import Image

    from ...adapters.ppd import User
    from ...adapters.taste import Taste
    from .studio import Studio

__all__ = ["Brushwork", "Followed"]

READ_OUT = 0.05  # between two strengths whose turn is told
STRONGEST = 2.0
PATIENCE = 0.05  # s before a picture that gave way to somebody else's is begun again


@dataclass(frozen=True)
class Followed:
    """What pictures follow: tastes that move the prompt, one for each encoder, or a user that moves the denoiser."""

    tastes: tuple[Taste, ...]
    user: User | None = None

    @property
    def any(self) -> bool:
        """Whether there is something to follow."""
        return bool(self.tastes) or self.user is not None

    @property
    def taste(self) -> Any:
        """As a model takes it: None, one taste, or one for each of its encoders."""
        return self.tastes[0] if len(self.tastes) == 1 else self.tastes or None

    @property
    def fingerprint(self) -> str:
        """Of the numbers; "" for nothing."""
        digest = hashlib.sha256()
        if self.user is not None:
            digest.update(self.user.ppd.encode() + self.user.tokens.detach().cpu().float().numpy().tobytes())
        for taste in self.tastes:
            digest.update(taste.encoder.encode() + taste.weights.detach().cpu().float().numpy().tobytes())
        return digest.hexdigest()[:16] if self.any else ""


class Brushwork:
    """Paints what a wish names.

    Args:
        studio: Gives encoder and tools.
        gallery: Keeps the pictures.
        painter: The model.
        wish: What to paint.
        person: Whose gallery it is for.
        followed: What the pictures follow.
        job: Is told of every picture.
    """

    def __init__(
        self,
        studio: Studio,
        gallery: Gallery,
        painter: Brush,
        wish: Wish,
        person: str,
        followed: Followed,
        job: Job,
    ) -> None:
        self._studio, self._gallery, self._painter = studio, gallery, painter
        self._wish, self._person, self._followed, self._job = wish, person, followed, job
        self._facts = studio.tools.facts(painter.painter)
        # By seed and strength, with the seconds that each took.
        self._painted_ahead: dict[tuple[int, float], tuple[Image.Image, float]] = {}
        self._asked: dict[tuple[int, float], Image.Image] = {}
        self._degrees: list[float] | None = None  # of the prompt's turn; None: not worked out yet

    def following(self, wish: Wish, followed: Followed) -> Brushwork:
        """Return one for the same work with other weights."""
        other = Brushwork(self._studio, self._gallery, self._painter, wish, self._person, followed, self._job)
        other._degrees = []  # what is told is the turn by the wish's own weights
        return other

    def surprised(self) -> Wish:
        """Return the wish with the seeds whose plain pictures differ most, where it leaves something to surprise."""
        candidates, count = self._wish.candidates(), len(self._wish.seeds)
        try:
            encoder = self._studio.encoder() if len(candidates) > count else None
        except EncoderError:  # nobody can tell which differ
            encoder = None
        if encoder is None:
            return self._wish
        vectors = encoder.encode_images(self._ahead(candidates, 0.0))
        self._wish = replace(self._wish, seeds=tuple(candidates[index] for index in most_different(vectors, count)))
        return self._wish

    def best(self, taste: Taste, encoder: Any) -> Wish:
        """Return the wish with the seeds that a taste likes best, of each picture's draws."""
        draws, strength = self._wish.draws(), self._wish.settings.strength
        images = self._ahead([seed for draw in draws for seed in draw], strength)
        liked = taste.utility(encoder.encode_images(images)).reshape(len(draws), -1).argmax(dim=1).tolist()
        self._wish = replace(self._wish, seeds=tuple(draw[at] for draw, at in zip(draws, liked, strict=True)))
        return self._wish

    def _ahead(self, seeds: Sequence[int], strength: float) -> list[Image.Image]:
        """Paint pictures to choose from."""
        for number, seed in enumerate(seeds):
            self._job.tell(number / len(seeds), f"Painting {len(seeds)} pictures to choose from…")
            self._painted_ahead[seed, strength] = self._timed(seed, strength, True, number, len(seeds))
        return [self._painted_ahead[seed, strength][0] for seed in seeds]

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

    def frame(
        self,
        seed: int,
        strength: float,
        between: bool,
        number: int,
        count: int,
        text: str,
        weights: Sequence[float] = (),
    ) -> None:
        """Paint one picture, keep it, and tell of it.

        Args:
            between: It was not asked for by itself.
            number, count: Which picture of how many this is.
            text: What the job says meanwhile.
            weights: Of the parts, where they are others than those that the page asked for.
        """
        self._job.tell(number / count, text)
        ready = self._painted_ahead.get((seed, strength))
        image, seconds = ready or self._timed(seed, strength, not between, number, count)
        if not between:
            self._asked[seed, strength] = image
        if strength > 0 and self._followed.tastes and self._degrees is None:
            self._degrees = self._job.found["degrees"] = self._turns()
        shot = self._gallery.add(image, self._used(seed, strength, image), seconds, between)
        self._job.found["frames"] = [*self._job.found["frames"], _frame(seed, strength, shot, weights)]

    def _timed(self, seed: int, strength: float, urgent: bool, number: int, count: int) -> tuple[Image.Image, float]:
        def on_step(step: int, steps: int) -> None:
            self._job.tell((number + step / max(steps, 1)) / count)

        started = time.monotonic()
        return self._painted(seed, strength, urgent, on_step), time.monotonic() - started

    def _painted(self, seed: int, strength: float, urgent: bool, on_step: Callable[[int, int], None]) -> Image.Image:
        wish, user = self._wish, self._followed.user
        prompt = wish.prompt if strength == 0 else in_one(wish.prompt, wish.added)
        options: dict[str, Any] = {"settings": wish.settings, "strength": strength, "on_step": on_step}
        options["taste"] = None if strength == 0 else self._followed.taste
        if user is not None and strength != 0:
            options |= {"user": user, "user_strength": strength}
        given = {"negative_prompt": wish.negative or None, "steps": wish.steps, "guidance": wish.guidance}
        options |= {name: value for name, value in (given | {"size": wish.size}).items() if value is not None}
        while True:
            try:
                (image,) = self._painter.images(prompt, [seed], self._job.cancelled, urgent, **options)
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

    def _turns(self) -> list[float]:
        """Degrees at strengths 0, 0.05, ... 2; none where the model doesn't say."""
        strengths = [round(i * READ_OUT, 2) for i in range(round(STRONGEST / READ_OUT) + 1)]
        wish, taste, moved = self._wish, self._followed.taste, self._studio.tools.moved
        prompt = in_one(wish.prompt, wish.added)
        with self._painter.turn(self._job.cancelled) as model:
            turns = [moved(model, prompt, taste, one, replace(wish.settings, strength=one)) for one in strengths]
        return [] if None in turns else [round(float(degrees), 1) for degrees in turns if degrees is not None]

    def _used(self, seed: int, strength: float, image: Image.Image) -> Used:
        wish, facts, steered = self._wish, self._facts, strength > 0 and self._followed.any
        method = DENOISER if wish.denoiser else wish.settings.method
        degrees, at = self._degrees or [], round(strength / READ_OUT)
        return Used(
            person=self._person,
            prompt=wish.prompt,
            negative=wish.negative,
            seed=seed,
            strength=strength if steered else 0.0,
            tastes=tuple((part.source, part.weight) for part in wish.parts if part.weight) if steered else (),
            fingerprint=self._followed.fingerprint if steered else "",
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
            words=wish.added if steered else (),
        )


def _frame(seed: int, strength: float, shot: Shot, weights: Sequence[float]) -> dict[str, Any]:
    told = {"seed": str(seed), "strength": strength, "id": shot.id}
    told |= {"width": shot.used.width, "height": shot.used.height}
    return told | ({"weights": list(weights)} if weights else {})
