"""From a person's answers in the store to their embedding.

Shapes: N pairs, D image vectors.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..comparisons import PreferenceStore
from ..encoders import ImageTextEncoder, encode_readable
from ..errors import EncoderMismatchError, ImageError, NotEnoughAnswersError, PPDError
from .user import User
from .user_encoder import PictureEncoder

if TYPE_CHECKING:
    from .model import PPD

__all__ = ["MOST_PAIRS", "encode_user", "require_pairs"]

MOST_PAIRS = 16


def encode_user(
    store: PreferenceStore, encoder: ImageTextEncoder | None, person: str, ppd: PPD, most: int = MOST_PAIRS
) -> User:
    """Make the embedding of a person from their newest answers that prefer one of two pictures.

    Args:
        store: Where the answers are.
        encoder: The image encoder that the PPD was trained with; None where it knows people by name (`learned`).
        person: Whose answers.
        ppd: Whose user encoder.
        most: Answers to use, >= 1.

    Raises:
        EncoderMismatchError: the PPD was trained with another image encoder.
        NotEnoughAnswersError: no answer prefers one picture, or the pictures are gone.
        PPDError: the answers say nothing, or `most` is below 1; nobody of this name among those that it knows by name;
            or it knows people by profiles, which `user_from_profiles` takes.
    """
    kind = getattr(ppd.encoder, "kind", "")
    if kind == "learned":
        named: User = ppd.encoder.user(person, ppd)  # type: ignore[union-attr,operator]
        return named
    if kind == "vlm":
        raise PPDError(
            f"Cannot make an embedding of {person!r} here: the PPD {ppd.name!r} ({ppd.base}) knows people by profiles "
            f"of {ppd.image_encoder_name or 'a vision-language model'}; expected a user file. Make one: palate user "
            f"{person} --ppd FILE --vlm FOLDER."
        )
    if encoder is None:
        raise PPDError(f"Cannot make an embedding of {person!r} without an image encoder; expected one.")
    if most < 1:
        raise PPDError(f"Cannot make an embedding of {person!r} from {most} answers; expected 1 or more.")
    if ppd.image_encoder and ppd.image_encoder != encoder.identity:
        raise EncoderMismatchError(
            f"Cannot make an embedding of {person!r}: the PPD {ppd.name!r} ({ppd.base}) was trained with the image "
            f"encoder {ppd.image_encoder_name or 'unnamed'} ({ppd.image_encoder[:12]}); found {encoder.name} "
            f"({encoder.identity[:12]}). Load the first one."
        )
    answers = _newest_first(store, person)
    sides: list[tuple[Tensor, Tensor]] = []
    for start in range(0, len(answers), most):
        some = answers[start : start + most]
        vectors = _seen(store, encoder, ppd, [image for pair in some for image in pair])
        sides += [(vectors[one], vectors[other]) for one, other in some if {one, other} <= vectors.keys()]
        if len(sides) >= most:
            break
    if not sides:
        found = f"{len(answers)} whose pictures are gone" if answers else "none"
        raise NotEnoughAnswersError(
            f"Cannot make an embedding of {person!r}: found {found}; expected answers that prefer one of two "
            "pictures. Compare some pictures first; 4 are a start."
        )
    chosen, rejected = (torch.stack(side) for side in zip(*sides[:most], strict=True))
    return ppd.user(chosen, rejected, person)


def _newest_first(store: PreferenceStore, person: str) -> list[tuple[str, str]]:
    """(chosen, rejected) image ids; a pair that was answered more than once counts with its last answer."""
    found: list[tuple[str, str]] = []
    known: set[frozenset[str]] = set()
    for comparison in reversed(store.comparisons(person)):
        pair = frozenset((comparison.left, comparison.right))
        if pair in known or comparison.outcome not in ("left", "right", "tie"):
            continue
        known.add(pair)
        if comparison.chosen is not None and comparison.rejected is not None:
            found.append((comparison.chosen, comparison.rejected))
    return found


def _seen(store: PreferenceStore, encoder: ImageTextEncoder, ppd: PPD, ids: Sequence[str]) -> dict[str, Tensor]:
    """What the PPD's user encoder is told of each picture (D,); pictures that can't be read are absent."""
    if not isinstance(ppd.encoder, PictureEncoder):
        return encode_readable(store, encoder, ids)
    found = {}
    for image in dict.fromkeys(ids):
        with contextlib.suppress(ImageError):
            found[image] = ppd.encoder.look(encoder, [store.image(image)])[0]
    return found


def require_pairs(chosen: Tensor, rejected: Tensor, person: str) -> None:
    """Refuse pairs that make no embedding: none, NaN, all of equal pictures, or each taken back by another one.

    Raises:
        PPDError: says which of these.
    """
    what = f"Cannot make an embedding of {person or 'this person'!r}"
    if chosen.ndim < 2 or chosen.shape != rejected.shape or len(chosen) == 0:
        raise PPDError(
            f"{what}: found vectors of shape {tuple(chosen.shape)} and {tuple(rejected.shape)}; expected (N, D) twice "
            "with at least one pair. Compare some pictures first; 4 pairs are a start."
        )
    if not bool(torch.isfinite(chosen).all() and torch.isfinite(rejected).all()):
        raise PPDError(f"{what}: its image vectors hold NaN or infinity; expected numbers. Encode the pictures again.")
    difference = (chosen - rejected).double()
    if not bool(difference.any()):
        raise PPDError(
            f"{what}: the two pictures of {'the pair' if len(chosen) == 1 else f'each of the {len(chosen)} pairs'} are "
            "the same; expected two different ones. Compare other pictures."
        )
    if not bool(_counts(chosen, rejected).any()):
        raise PPDError(
            f"{what}: each of the {len(chosen)} answers is taken back by another one; expected some that agree. "
            "Answer a few pairs again."
        )


def _counts(chosen: Tensor, rejected: Tensor) -> Tensor:
    """How much more often each pair was answered this way than the other way round, by unequal pair."""
    chosen, rejected = chosen.flatten(1), rejected.flatten(1)
    pairs = torch.stack([torch.cat([chosen, rejected], 1), torch.cat([rejected, chosen], 1)], 1)
    _, kinds = torch.unique(pairs.flatten(0, 1), dim=0, return_inverse=True)
    votes = torch.zeros(int(kinds.max()) + 1)
    this, other = kinds.view(-1, 2).unbind(1)
    votes.index_add_(0, this, torch.ones(len(this)))
    votes.index_add_(0, other, -torch.ones(len(other)))
    return votes
