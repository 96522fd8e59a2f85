"""What `bt-generation` does for one group of people: every arm's pictures for their prompts, judged.

Shapes: P people, K prompts each.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..playground.captions import named_in
from ..steering import Conditioning, SteeringSettings
from ..taste import Taste
from ._painter import Job, Painter, Seen
from ._tables import Array
from ._voters import Voter
from ._votes import Outcome

__all__ = ["Arm", "Study"]


@dataclass(frozen=True)
class Arm:
    """One way to make a picture for a person.

    Attributes:
        name: In the tables.
        settings: How to steer; `turn` is tuned.
        whose: Taste: "own", "stranger" or "perfect".
        as_tuned: Name of the arm whose turn is taken; "" tunes its own.
    """

    name: str
    settings: SteeringSettings
    whose: str = "own"
    as_tuned: str = ""


@dataclass
class Study:
    """People, their prompts, and one painter for all arms.

    Attributes:
        painter: Remembers all pictures.
        voters: P people.
        prompts: All prompts; the seed of each is `first_seed` plus its place.
        shares: (P, K) places of each person's prompts.
        first_seed: Of the first prompt's noise.
    """

    painter: Painter
    voters: list[Voter]
    prompts: list[str]
    shares: list[list[int]]
    first_seed: int = 0
    _plain: dict[str, Conditioning] = field(default_factory=dict)

    def original(self, seeds: int = 1) -> list[Outcome]:
        """The plain pictures of that many seeds, the first being those that all arms are compared with."""
        return [self._judged([self._jobs_plain(row, 1000 * k) for row in self.shares]) for k in range(seeds)]

    def best_of(self, seeds: int, ranked_by: str) -> Outcome:
        """The best of several plain pictures by "utility" (an oracle) or by the learned "taste"."""
        found = self.original(seeds)
        utility, kept = (np.stack([getattr(o, name) for o in found]) for name in ("utility", "kept"))
        scores = utility
        if ranked_by == "taste":
            scores = np.stack(
                [self._scores([self._jobs_plain(r, 1000 * k) for r in self.shares]) for k in range(seeds)]
            )
        best = scores.argmax(axis=0)[None]
        return Outcome(np.take_along_axis(utility, best, 0)[0], np.take_along_axis(kept, best, 0)[0], pictures=seeds)

    def steered(self, arm: Arm, turn: float) -> Outcome:
        """An arm, turned by so many degrees; 0 leaves prompts as they are."""
        settings = replace(arm.settings, turn=turn) if turn > 0 else replace(arm.settings, strength=0.0)
        conditioner, started = self.painter.generator.conditioner, time.perf_counter()
        degrees: list[float] = []
        jobs: list[list[Job]] = []
        for person, row in enumerate(self.shares):
            taste = self._taste(arm, person)
            jobs.append([])
            for place in row:
                conditioning, movement = conditioner.steered(self.prompts[place], taste, settings)
                degrees.append(movement.degrees)
                jobs[-1].append(Job(conditioning, self.first_seed + place))
        seconds = (time.perf_counter() - started) / len(degrees)
        return replace(self._judged(jobs), seconds=seconds, degrees=float(np.mean(degrees)))

    def diversity(self, arm: Arm | None, turn: float, people: int, prompts: int = 2, seeds: int = 4) -> float:
        """Mean distance of measured features between pictures of one prompt, over some people's first prompts."""
        found = []
        for person in range(min(people, len(self.voters))):
            for place in self.shares[person][:prompts]:
                conditioning = self._plainly(self.prompts[place])
                if arm is not None:
                    settings = replace(arm.settings, turn=turn)
                    taste = self._taste(arm, person)
                    conditioning = self.painter.generator.conditioner.steered(self.prompts[place], taste, settings)[0]
                jobs = [Job(conditioning, self.first_seed + place + 1000 * k) for k in range(seeds)]
                x = self.painter.look(jobs).features
                first, second = np.triu_indices(seeds, 1)
                found.append(np.linalg.norm(x[first] - x[second], axis=1).mean())
        return float(np.mean(found))

    def spread(self) -> Array:
        """(P,) standard deviation of each person's utility over the plain pictures of all prompts, in noise units."""
        seen = self.painter.look(self._jobs_plain(range(len(self.prompts)), 0))
        return np.array([voter.rate(seen).std() / voter.noise for voter in self.voters])

    def _taste(self, arm: Arm, person: int) -> Taste:
        voters = self.voters
        perfect = voters[person].perfect
        if arm.whose == "perfect" and perfect is not None:
            return perfect
        return voters[(person + 1) % len(voters) if arm.whose == "stranger" else person].taste

    def _plainly(self, prompt: str) -> Conditioning:
        if prompt not in self._plain:
            self._plain[prompt] = self.painter.generator.conditioner.plain(prompt)
        return self._plain[prompt]

    def _jobs_plain(self, places: Sequence[int], shift: int) -> list[Job]:
        return [Job(self._plainly(self.prompts[place]), self.first_seed + place + shift) for place in places]

    def _judged(self, jobs: list[list[Job]]) -> Outcome:
        seen, utility, kept = self._seen(jobs), [], []
        for voter, row, pictures in zip(self.voters, self.shares, seen, strict=True):
            utility.append(voter.rate(pictures) / voter.noise)
            said = [named_in(self.prompts[place]) for place in row]
            kept.append([s.items() <= n.items() for s, n in zip(said, pictures.named, strict=True)])
        return Outcome(np.array(utility), np.array(kept))

    def _scores(self, jobs: list[list[Job]]) -> Array:
        return np.array(
            [v.taste.utility(s.vectors).numpy() for v, s in zip(self.voters, self._seen(jobs), strict=True)]
        )

    def _seen(self, jobs: list[list[Job]]) -> list[Seen]:
        found, start, out = self.painter.look([job for row in jobs for job in row]), 0, []
        for row in jobs:
            out.append(found[start : start + len(row)])
            start += len(row)
        return out
