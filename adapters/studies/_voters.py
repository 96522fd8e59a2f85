"""People who say which of several generated pictures they like best, each with a taste learned from their answers.

Shapes: N pictures, K captions, V pictures a caption, A answers, D joint width.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ..comparisons import Comparison, PreferenceStore
from ..encoders import ImageTextEncoder
from ..errors import NotEnoughAnswersError
from ..playground.people import Person, make_people
from ..taste import BradleyTerry, Taste
from ..taste.prior import evidence_prior_variance
from ._painter import Seen
from ._samples import VIEWS, Pool, calibrated, vectors_of
from ._tables import Array

__all__ = ["PERFECT", "Voter", "learned", "simulated_voters", "stored_voters"]

PERFECT = 2000  # noiseless answers behind the best taste that this encoder can hold
_CARDS = 16  # that invented people set their noise on; it is set again on the pool


@dataclass(frozen=True)
class Voter:
    """One person.

    Attributes:
        name: Of the person.
        taste: Learned from as many answers as the study gives.
        perfect: Learned from PERFECT noiseless answers; None for real people.
        rate: Utility (N,) of pictures by the judge: true utility, or for real people a taste of other answers.
        noise: Of the person's answers, in the unit of `rate`.
        prompts: What the person asked for; () for simulated people.
    """

    name: str
    taste: Taste
    perfect: Taste | None
    rate: Callable[[Seen], Array]
    noise: float
    prompts: tuple[str, ...] = ()


def simulated_voters(encoder: ImageTextEncoder, pool: Pool, people: int, answers: int, seed: int) -> list[Voter]:
    """Invent people and let them answer pairs of one caption of the pool; noise as `calibrated` sets it."""
    voters = []
    for invented in make_people(people, seed, cards=_CARDS):
        person = calibrated(invented, pool)
        utility = np.array([[person.utility(view) for view in views] for views in pool.measured])
        rng = random.Random(f"bt-generation/{seed}/{person.name}")
        given = _answers(pool, utility, person.noise, answers, rng)
        exact = _answers(pool, utility, 0.0, PERFECT, rng)
        taste, perfect = (learned(encoder, person.name, *sides) for sides in (given, exact))
        voters.append(Voter(person.name, taste, perfect, _true_utility(person), person.noise))
    return voters


def _true_utility(person: Person) -> Callable[[Seen], Array]:
    return lambda seen: np.array([person.utility(row) for row in seen.features])


def _answers(pool: Pool, utility: Array, noise: float, count: int, rng: random.Random) -> tuple[Array, Array]:
    """Chosen and rejected, (A, D) each, of random pairs of one caption; noise 0 never errs."""
    chosen, rejected = [], []
    for _ in range(count):
        caption = rng.randrange(len(utility))
        left, right = rng.sample(range(VIEWS), 2)
        gap = utility[caption, left] - utility[caption, right]
        wins = gap > 0 if noise == 0 else rng.random() < 1 / (1 + np.exp(-np.clip(gap / noise, -500, 500)))
        first, second = (left, right) if wins else (right, left)
        chosen.append(pool.vectors[caption, first])
        rejected.append(pool.vectors[caption, second])
    return np.array(chosen), np.array(rejected)


def learned(encoder: ImageTextEncoder, name: str, chosen: Array, rejected: Array) -> Taste:
    """The taste that `fit_taste` learns from such answers, (A, D) each."""
    variance = evidence_prior_variance(chosen, rejected)
    model = BradleyTerry(variance).fit(chosen, rejected)
    return Taste(
        weights=torch.from_numpy(np.asarray(model.weights_, dtype=np.float32)),
        encoder=encoder.identity,
        encoder_name=encoder.name,
        person=name,
        answers=len(chosen),
        prior_variance=variance,
        chosen=torch.from_numpy(chosen.astype(np.float32)),
        rejected=torch.from_numpy(rejected.astype(np.float32)),
        fitted=model,
    )


def stored_voters(store: PreferenceStore, encoder: ImageTextEncoder, answers: int, seed: int) -> list[Voter]:
    """Real people: every second of their answers, in random order, teaches (up to `answers`), the others judge.

    Raises:
        NotEnoughAnswersError: nobody gave four preferences for pictures with a prompt.
    """
    voters: list[Voter] = []
    for name in store.people():
        found = [c for c in store.comparisons(name) if c.chosen and c.rejected]
        found = [c for c in found if store.has_image(c.left) and store.has_image(c.right)]
        prompts = tuple(dict.fromkeys(c.prompt for c in found if c.prompt.strip()))
        if len(found) < 4 or not prompts:
            continue
        order = np.random.default_rng([seed, len(voters)]).permutation(len(found))
        halves = [[found[i] for i in order[start::2]] for start in (0, 1)]
        taste = learned(encoder, name, *_sides(store, encoder, halves[0][:answers]))
        judge = learned(encoder, name, *_sides(store, encoder, halves[1]))
        voters.append(Voter(name, taste, None, _held_out(judge), 1.0, prompts))
    if not voters:
        raise NotEnoughAnswersError(
            f"Cannot run the study on {store.path.name!r}: nobody in it gave four preferences between pictures with a "
            "prompt. Collect some more."
        )
    return voters


def _held_out(judge: Taste) -> Callable[[Seen], Array]:
    return lambda seen: judge.utility(seen.vectors).double().numpy()


def _sides(store: PreferenceStore, encoder: ImageTextEncoder, found: list[Comparison]) -> tuple[Array, Array]:
    chosen, rejected = ([str(getattr(c, side)) for c in found] for side in ("chosen", "rejected"))
    return vectors_of(store, encoder, chosen), vectors_of(store, encoder, rejected)
