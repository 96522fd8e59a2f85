"""The pictures of `ppd-unseen`: of each arm, for the same people, prompts and noise.

Shapes: P people, K prompts each, N answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..playground import words_known_by
from ..playground.captions import caption, named_in
from ..playground.world import NAMED
from ..ppd.model import PPD, UserEncoder
from ..steering import Generator, SteeringSettings
from ..taste import Taste, prompt_in_words
from ._painter import Job, Painter, Seen
from ._ppd_people import Met, true_utilities
from ._tables import Array
from ._voters import learned

__all__ = ["BEST", "WORDS", "Asked", "Properties", "tokens_of"]

WORDS, BEST = 2, 3  # as `palate generate --for` has them
_FAR = 100_000  # between the seeds of one prompt
_TURN = 18.0  # degrees; what `bt-generation` found best for `direction`
_STEERING = SteeringSettings(method="encoder", objective="direction", limit=180.0, turn=_TURN)


@dataclass(frozen=True, eq=False)
class Asked:
    """P people, K prompts of each, and one painter for all arms.

    Attributes:
        met: The people and their answers.
        prompts: P rows of K prompts.
    """

    painter: Painter
    met: Met
    prompts: list[list[str]]

    def plain(self, said: Callable[[int, str], str] | None = None) -> Seen:
        """The base model's pictures, of the prompts or of what is said instead, person by person."""
        return self.painter.look(self._jobs(said))

    def steered(self, tastes: Sequence[Taste]) -> Seen:
        """Turned along everybody's taste."""
        text = self.painter.generator.conditioner
        jobs = [
            Job(text.steered(prompt, taste, _STEERING)[0], self._seed(person, k))
            for person, (row, taste) in enumerate(zip(self.prompts, tastes, strict=True))
            for k, prompt in enumerate(row)
        ]
        return self.painter.look(jobs)

    def personal(self, ppd: PPD, tokens: Tensor, said: Callable[[int, str], str] | None = None, again: int = 0) -> Seen:
        """With everybody's user, tokens (P, K, W), of the prompts or of what is said instead; `again`: other noise."""
        share = len(self.prompts[0])
        jobs = [
            replace(job, user=tokens[place // share], ppd=ppd, seed=job.seed + _FAR * again)
            for place, job in enumerate(self._jobs(said))
        ]
        return self.painter.look(jobs)

    def given(self, ppd: PPD, tokens: Tensor, tastes: Sequence[Taste]) -> Seen:
        """All that answers give at once: a user, liked words, and of BEST pictures the one that the taste likes."""
        drawn = [self.personal(ppd, tokens, self.liked_words(tastes), again) for again in range(BEST)]
        whose = [taste for taste, row in zip(tastes, self.prompts, strict=True) for _ in row]
        scores = [
            [float(taste.utility(vector[None])[0]) for taste, vector in zip(whose, seen.vectors, strict=True)]
            for seen in drawn
        ]
        best = np.array(scores).argmax(0)
        return Seen.joined([drawn[number][place : place + 1] for place, number in enumerate(best)])

    def liked_words(self, tastes: Sequence[Taste]) -> Callable[[int, str], str]:
        """What a person's prompt says with the words of the playground that the person's taste likes."""
        encoder = self.painter.generator.encoder
        assert encoder is not None
        words = words_known_by(encoder.name)
        return lambda person, prompt: prompt_in_words(prompt, tastes[person], encoder, words, WORDS).prompt

    def tastes(self, pairs: int) -> list[Taste]:
        """Everybody's, from the first answers."""
        encoder = self.painter.generator.encoder
        assert encoder is not None
        chosen, rejected = (side.double().numpy() for side in self.met.first(pairs))
        sides = zip(self.met.people, chosen, rejected, strict=True)
        return [learned(encoder, person.name, *pair) for person, *pair in sides]

    def utilities(self, measured: Array) -> Array:
        """(P, K) of a picture (features (P K, F)) for each person and prompt."""
        each = len(self.prompts[0])
        rows = measured.reshape(len(self.prompts), each, -1)
        found = [true_utilities([person], row)[0] for person, row in zip(self.met.people, rows, strict=True)]
        return np.array(found)

    def kept(self, seen: Seen) -> Array:
        """(P,) share of the pictures in which everything that the prompt names is right."""
        said = [named_in(prompt) for row in self.prompts for prompt in row]
        right = [wanted.items() <= shown.items() for wanted, shown in zip(said, seen.named, strict=True)]
        found: Array = np.array(right, dtype=float).reshape(len(self.prompts), -1).mean(1)
        return found

    def _jobs(self, said: Callable[[int, str], str] | None = None) -> list[Job]:
        text = self.painter.generator.conditioner
        return [
            Job(text.plain(said(person, prompt) if said else prompt), self._seed(person, k))
            for person, row in enumerate(self.prompts)
            for k, prompt in enumerate(row)
        ]

    def _seed(self, person: int, number: int) -> int:
        return 9_000_000 + person * len(self.prompts[0]) + number


@torch.no_grad()
def tokens_of(ppd: PPD, met: Met, answers: int) -> Tensor:
    """(P, K, W) from everybody's first answers; 0 answers: the average user."""
    assert isinstance(ppd.encoder, UserEncoder)
    tokens: Tensor = ppd.encoder(*met.first(answers), None)
    return tokens


class Properties:
    """Prompts that say more: the properties that the prompt leaves open and the person's taste likes best."""

    def __init__(self, generator: Generator, tastes: Sequence[Taste]) -> None:
        assert generator.encoder is not None
        self._encoder, self._tastes = generator.encoder, tastes
        self._vectors: dict[str, Tensor] = {}

    def __call__(self, person: int, prompt: str) -> str:
        for _ in range(WORDS):
            said = named_in(prompt)
            more = [(name, value) for name in NAMED if name not in said for value in NAMED[name]]
            texts = [prompt, *(caption({**said, name: value}) for name, value in more)]
            new = [text for text in texts if text not in self._vectors]
            if new:
                self._vectors |= dict(zip(new, self._encoder.encode_texts(new), strict=True))
            utility = self._tastes[person].utility(torch.stack([self._vectors[text] for text in texts]))
            prompt = texts[int(utility.argmax())]
        return prompt
