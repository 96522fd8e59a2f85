"""Whose pictures `palate generate` makes: tastes and users of files, or all that a person's answers give."""

from __future__ import annotations

import argparse
import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..adapters.errors import PPDError, PreferenceError
from .tastes import weighted
from .users import ppd_named, use_fitting_ppd

if TYPE_CHECKING:
    from ..adapters.comparisons import PreferenceStore
    from ..adapters.ppd.model import PPD
    from ..adapters.ppd.user import User
    from ..adapters.steering import Generator
    from ..adapters.taste import Taste

__all__ = ["GenerateError", "Whose", "answers_of", "best_of", "for_person", "from_files"]

# What `--for` takes where nothing is said: what study `bt-generation` found best of all that keeps the prompt.
WORDS, BEST = 2, 3
USER_STRENGTH, PROMPT_STRENGTH = 0.7, 1.0  # of the denoiser where a PPD fits, else of the prompt that is moved
_ANSWERS = 50  # that a user is made from there


class GenerateError(PreferenceError, ValueError):
    """A command that can't be run as it was given."""


@dataclass(frozen=True)
class Whose:
    """What makes a picture somebody's.

    Attributes:
        tastes: One of each encoder. taste_parts: Name and weight of what they are the sum of.
        user: Of a PPD, or None. user_parts: As above. ppd: The one that the user needs.
        strength: Of the tastes, 0 to 2. user_strength: Of the user, -5 to 5.
        words: That the tastes like, added to the prompt.
        best: Of so many pictures each, the one that the tastes like best is kept.
    """

    tastes: tuple[Taste, ...] = ()
    taste_parts: tuple[tuple[str, float], ...] = ()
    user: User | None = None
    user_parts: tuple[tuple[str, float], ...] = ()
    ppd: PPD | None = None
    strength: float = 1.0
    user_strength: float = 1.0
    words: int = 0
    best: int = 1


def from_files(arguments: argparse.Namespace) -> Whose:
    """Read the tastes and users that were named, before a model is loaded: what can be refused is refused at once.

    Raises:
        EncoderMismatchError, FileFormatError, PPDError: as reading and blending them says.
    """
    tastes, taste_parts = _tastes(arguments.taste or [])
    user, user_parts = _user(arguments.user or [])
    return Whose(
        tastes,
        taste_parts,
        user,
        user_parts,
        None if user is None else _ppd(arguments, user),
        1.0 if arguments.strength is None else arguments.strength,
        1.0 if arguments.user_strength is None else arguments.user_strength,
        arguments.words or 0,
        best_of(arguments),
    )


def best_of(arguments: argparse.Namespace) -> int:
    """Of how many pictures the best is kept."""
    return arguments.best or (1 if arguments.person is None else BEST)


def answers_of(person: str, store: Path) -> PreferenceStore:
    """Open the store, before a model is loaded for somebody who never answered.

    Raises:
        GenerateError: there are no answers of this person.
        StoreError: there is no store.
    """
    from ..adapters.comparisons import PreferenceStore

    answers = PreferenceStore.existing(store)
    if answers.count(person):
        return answers
    answers.close()
    raise GenerateError(
        f"Cannot generate for {person[:60]!r}: found no answers of theirs in {store}; expected some. Compare pictures "
        "with `palate panel`, or name somebody else."
    )


def for_person(arguments: argparse.Namespace, generator: Generator, answers: PreferenceStore) -> Whose:
    """Learn all that a person's answers give this model: a taste, words, and a user where a PPD fits.

    Where there is a user the prompt isn't steered, unless that is asked for: it would cost more of the prompt than it
    gains (study `bt-generation`).

    Args:
        arguments: Of the command; `person` says who.
        generator: Takes the PPD.
        answers: The store.

    Raises:
        GenerateError: the model comes without an encoder.
        NotEnoughAnswersError: the person hasn't answered.
    """
    from ..adapters.taste import fit_taste

    person, encoders = arguments.person, list(generator.encoders.values())
    if not encoders:
        raise GenerateError(
            f"Cannot generate for {person!r}: found no encoder for {generator.name}; expected the CLIP that its text "
            "encoder belongs to. Name it with --encoder."
        )
    tastes = tuple(fit_taste(answers, encoder, person) for encoder in encoders)
    user = _user_of(arguments, generator, answers)
    strength = arguments.strength if arguments.strength is not None else PROMPT_STRENGTH if user is None else 0.0
    told = USER_STRENGTH if arguments.user_strength is None else arguments.user_strength
    words = WORDS if arguments.words is None else arguments.words
    best = best_of(arguments)
    parts = ((person, 1.0),)
    known = "no PPD that fits" if user is None else f"a denoiser told of {user.pairs} comparisons, at {told:g}"
    moved = f"the prompt moved at strength {strength:g}" if strength else "the prompt not moved"
    who = f"For {person}, from {tastes[0].answers} answers: {words} liked words at most"
    print(f"{who}, {moved}, {known}; the best of {best}.", file=sys.stderr)
    ppd = None if user is None else generator.ppd
    return Whose(tastes, parts, user, parts if user else (), ppd, strength, told, words, best)


def _user_of(arguments: argparse.Namespace, generator: Generator, answers: PreferenceStore) -> User | None:
    from ..adapters.ppd.model import encode_user

    if arguments.ppd:
        ppd: PPD | None = ppd_named(arguments.ppd)
        generator.use_ppd(ppd)
    else:
        ppd = use_fitting_ppd(generator, arguments.model)
    if ppd is None:
        return None
    by_identity = {encoder.identity: encoder for encoder in generator.encoders.values()}
    refused = () if arguments.ppd else (PreferenceError,)  # one that reads people in another way is none for this
    with contextlib.suppress(*refused):
        return encode_user(answers, by_identity.get(ppd.image_encoder), arguments.person, ppd, _ANSWERS)
    generator.use_ppd(None)
    return None


def _tastes(words: list[str]) -> tuple[tuple[Taste, ...], tuple[tuple[str, float], ...]]:
    """One taste of each encoder, and what it is the sum of."""
    from ..adapters.files import load_taste
    from ..adapters.taste import blend_tastes

    parts = [weighted(word) for word in words]
    by_encoder: dict[str, list[tuple[Taste, float]]] = {}
    for file, weight in parts:
        taste = load_taste(file)
        by_encoder.setdefault(taste.encoder, []).append((taste, weight))
    sums = []
    for alike in by_encoder.values():
        tastes, weights = zip(*alike, strict=True)
        sums.append(tastes[0] if weights == (1.0,) else blend_tastes(tastes, weights))
    return tuple(sums), _named(parts)


def _user(words: list[str]) -> tuple[User | None, tuple[tuple[str, float], ...]]:
    """The users' sum, None for nobody, and what it is the sum of."""
    from ..adapters.files import load_user
    from ..adapters.ppd.user import blend_users

    parts = [weighted(word) for word in words]
    users = [load_user(file) for file, _ in parts]
    return (blend_users(users, [weight for _, weight in parts]) if users else None), _named(parts)


def _ppd(arguments: argparse.Namespace, user: User) -> PPD:
    """The PPD that was named, else the one that made the user: the playground's, or one in PALATE_HOME."""
    from ..adapters.errors import FileFormatError
    from ..adapters.files import describe_ppd, load_ppd
    from ..adapters.places import ppd_folder
    from ..adapters.playground import playground_folder

    if arguments.ppd:
        ppd = ppd_named(arguments.ppd)
        ppd.takes(user)
        return ppd
    for file in [playground_folder() / "ppd.safetensors", *sorted(ppd_folder().glob("*.safetensors"))]:
        try:
            if describe_ppd(file).identity == user.ppd:
                return load_ppd(file)
        except FileFormatError:  # something else that lies there
            continue
    raise PPDError(
        f"Cannot generate for {user.person or 'this user'!r}: found no PPD {user.ppd[:12]} ({user.base or '?'}) in "
        f"{ppd_folder()}; expected the one that the user was made with. Name its file with --ppd."
    )


def _named(parts: list[tuple[str, float]]) -> tuple[tuple[str, float], ...]:
    return tuple((Path(file).stem, weight) for file, weight in parts)
