"""What `bt-generation` does for one group of people: every arm's pictures for their prompts, judged.

Shapes: P people, K prompts each.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from ..playground import words_known_by
from ..playground.captions import caption, named_in
from ..playground.world import NAMED
from ..ppd.model import PPD
from ..ppd.user_encoder import UserEncoder
from ..steering import Conditioning, SteeringSettings, TextConditioner
from ..steering.inversion import train_embedding
from ..steering.words import towers_of, with_word
from ..taste import Taste, Worded, prompt_in_words
from ._painter import Job, Painter, Seen, stronger
from ._tables import Array
from ._voters import Voter
from ._votes import Outcome

__all__ = ["PLAIN", "Arm", "Study"]

_WORD = "palatestudyword"
_FAR = 1000  # between the seeds of one prompt


@dataclass(frozen=True)
class Arm:
    """One way to make a picture for a person.

    Attributes:
        name: In the tables.
        settings: How to steer, `turn` is tuned; None trains a portable embedding to turn as far.
        whose: Taste: "own", "stranger", "perfect", or "" for none.
        as_tuned: Name of the arm whose turn is taken; "" tunes its own.
        words: Instead of steering, so many of the world's properties are added to the prompt: those that the prompt
            leaves open and the taste likes best, by what they do to the text's embedding. Turn plays no part.
        liked: Words that `prompt_in_words` adds first; with settings, the longer prompt is steered, else not.
        disliked: Words that it puts into the negative prompt.
        user: How strongly the denoiser is told who it is for, by a PPD from the same answers; 0 is not at all.
        main: Whether all of a person's prompts are looked at, or only as many as the study's `fewer`.
    """

    name: str
    settings: SteeringSettings | None = None
    whose: str = "own"
    as_tuned: str = ""
    words: int = 0
    liked: int = 0
    disliked: int = 0
    user: float = 0.0
    main: bool = False

    @property
    def turns(self) -> bool:
        """Whether the prompt's embedding is turned, or only what it says is more."""
        return self.settings is not None or not (self.words or self.liked or self.disliked or self.user)


PLAIN = Arm("original", whose="", main=True)


@dataclass
class Study:
    """People, their prompts, and one painter for all arms.

    Attributes:
        painter: Remembers all pictures.
        voters: P people.
        prompts: All prompts; the seed of each is `first_seed` plus its place.
        shares: (P, K) places of each person's prompts.
        first_seed: Of the first prompt's noise.
        fewer: How many of their prompts people look at where an arm isn't a main one.
        practice: Prompts that a portable embedding is trained on.
        ppd: For arms with a user.
    """

    painter: Painter
    voters: list[Voter]
    prompts: list[str]
    shares: list[list[int]]
    first_seed: int = 0
    fewer: int = 10
    practice: Sequence[str] = ()
    ppd: PPD | None = None
    _plain: dict[str, Conditioning] = field(default_factory=dict)
    _stronger: dict[float, PPD] = field(default_factory=dict)

    def look(self, arm: Arm, turn: float = 0.0) -> Outcome:
        """An arm, turned by so many degrees; 0 leaves prompts as they are."""
        jobs, seconds, degrees = self._jobs(arm, turn)
        return replace(self._judged(self._seen(jobs)), seconds=seconds, degrees=degrees)

    def original(self, seeds: int) -> Outcome:
        """The plain pictures; whether the prompt is kept is a share over several seeds.

        One seed a prompt may be lucky, and whatever changes a picture then looks like a loss.
        """
        jobs = self._jobs(PLAIN, 0.0)[0]
        found = [self._judged(self._seen([[_shifted(j, _FAR * k) for j in row] for row in jobs])) for k in range(seeds)]
        return replace(found[0], kept=np.mean([outcome.kept for outcome in found], axis=0))

    def best_of(self, seeds: int, ranked_by: str, arm: Arm = PLAIN, turn: float = 0.0) -> Outcome:
        """The best of several pictures by "utility" (an oracle) or by the learned "taste"."""
        jobs, seconds, degrees = self._jobs(arm, turn)
        seen = [self._seen([[_shifted(job, _FAR * k) for job in row] for row in jobs]) for k in range(seeds)]
        found = [self._judged(one) for one in seen]
        utility, kept = (np.stack([getattr(one, name) for one in found]) for name in ("utility", "kept"))
        scores = utility if ranked_by == "utility" else np.stack([self._scores(one) for one in seen])
        best = scores.argmax(axis=0)[None]
        utility, kept = (np.take_along_axis(values, best, 0)[0] for values in (utility, kept))
        return Outcome(utility, kept, seconds, seeds, degrees)

    def diversity(self, arm: Arm, turn: float, people: int, seeds: int = 3) -> float:
        """Mean distance of measured features between pictures of one prompt, over some people's first prompts."""
        jobs, found = self._jobs(arm, turn, people, 1)[0], []
        for row in jobs:
            x = self.painter.look([_shifted(row[0], _FAR * k) for k in range(seeds)]).features
            first, second = np.triu_indices(seeds, 1)
            found.append(np.linalg.norm(x[first] - x[second], axis=1).mean())
        return float(np.mean(found))

    def spread(self) -> Array:
        """(P,) standard deviation of each person's utility over the plain pictures of all prompts, in noise units.

        1 for who likes them all alike.
        """
        places = range(len(self.prompts))
        seen = self.painter.look([Job(self._plainly(self.prompts[k]), self.first_seed + k) for k in places])
        found = np.array([voter.rate(seen).std() / voter.noise for voter in self.voters])
        return np.where(found > 0, found, 1.0)

    def _jobs(
        self, arm: Arm, turn: float, people: int | None = None, prompts: int | None = None
    ) -> tuple[list[list[Job]], float, float]:
        """Pictures to paint by person, seconds for each beside painting, and degrees by which x turns on average."""
        started, degrees = time.perf_counter(), []
        most = prompts or (None if arm.main else self.fewer)
        rows: list[list[Job]] = []
        for person, places in enumerate(self.shares[:people]):
            asked = [self.prompts[place] for place in places[:most]]
            negatives, taste = [""] * len(asked), self._taste(arm, person)
            if taste is not None and (arm.liked or arm.disliked):
                worded = [self._in_words(prompt, taste, arm) for prompt in asked]
                asked, negatives = [one.prompt for one in worded], [one.negative for one in worded]
            found = [(self._plainly(prompt), 0.0) for prompt in asked]
            if taste is not None and arm.words:
                found = [(self._plainly(self._worded(prompt, taste, arm.words)), 0.0) for prompt in asked]
            elif taste is not None and turn > 0 and arm.turns:
                found = self._moved(arm.settings, taste, turn, asked)
            degrees += [angle for _, angle in found]
            seeds = [self.first_seed + place for place in places[:most]]
            user = self._user(person, arm.user) if arm.user else {}
            painted = zip(found, seeds, negatives, strict=True)
            rows.append([Job(conditioning, seed, negative=no, **user) for (conditioning, _), seed, no in painted])
        return rows, (time.perf_counter() - started) / len(degrees), float(np.mean(degrees))

    def _moved(
        self, settings: SteeringSettings | None, taste: Taste, turn: float, prompts: Sequence[str]
    ) -> list[tuple[Conditioning, float]]:
        text: TextConditioner = self.painter.generator.conditioner
        if settings is not None:
            found = [text.steered(prompt, taste, replace(settings, turn=turn)) for prompt in prompts]
            return [(conditioning, movement.degrees) for conditioning, movement in found]
        embedding = train_embedding(towers_of(text), [taste], self.practice, turn=turn)
        knowing, angle = with_word(text, _WORD, embedding), float(embedding.effect["degrees"])
        return [(knowing.plain(f"{prompt}, {_WORD}"), angle) for prompt in prompts]

    def _worded(self, prompt: str, taste: Taste, words: int) -> str:
        encoder = self.painter.generator.encoder
        assert encoder is not None
        for _ in range(words):
            said = named_in(prompt)
            more = [(name, value) for name in NAMED if name not in said for value in NAMED[name]]
            texts = [prompt, *(caption({**said, name: value}) for name, value in more)]
            utility = taste.utility(encoder.encode_texts(texts))
            prompt = texts[int(utility.argmax())]
        return prompt

    def _in_words(self, prompt: str, taste: Taste, arm: Arm) -> Worded:
        encoder = self.painter.generator.encoder
        assert encoder is not None
        return prompt_in_words(prompt, taste, encoder, words_known_by(encoder.name), arm.liked, arm.disliked)

    def _user(self, person: int, strength: float) -> dict[str, Any]:
        """Who it is for, as a `Job` takes it."""
        taste = self.voters[person].taste
        assert self.ppd is not None and isinstance(self.ppd.encoder, UserEncoder)
        assert taste.chosen is not None and taste.rejected is not None
        with torch.no_grad():
            tokens = self.ppd.encoder(taste.chosen[None], taste.rejected[None], None)[0]
        if strength not in self._stronger:
            self._stronger[strength] = stronger(copy.deepcopy(self.ppd), strength)
        return {"user": tokens, "ppd": self._stronger[strength]}

    def _taste(self, arm: Arm, person: int) -> Taste | None:
        if arm.whose == "perfect":
            return self.voters[person].perfect
        if arm.whose == "stranger":
            return self.voters[(person + 1) % len(self.voters)].taste
        return self.voters[person].taste if arm.whose else None

    def _plainly(self, prompt: str) -> Conditioning:
        if prompt not in self._plain:
            self._plain[prompt] = self.painter.generator.conditioner.plain(prompt)
        return self._plain[prompt]

    def _seen(self, jobs: list[list[Job]]) -> list[Seen]:
        """By person."""
        found, start, out = self.painter.look([job for row in jobs for job in row]), 0, []
        for row in jobs:
            out.append(found[start : start + len(row)])
            start += len(row)
        return out

    def _judged(self, seen: list[Seen]) -> Outcome:
        utility, kept = [], []
        for voter, places, pictures in zip(self.voters, self.shares, seen, strict=True):
            utility.append(voter.rate(pictures) / voter.noise)
            said = [named_in(self.prompts[place]) for place in places]
            kept.append([s.items() <= n.items() for s, n in zip(said, pictures.named, strict=False)])
        return Outcome(np.array(utility), np.array(kept))

    def _scores(self, seen: list[Seen]) -> Array:
        pairs = zip(self.voters, seen, strict=True)
        return np.array([voter.taste.utility(pictures.vectors).numpy() for voter, pictures in pairs])


def _shifted(job: Job, by: int) -> Job:
    return replace(job, seed=job.seed + by)
