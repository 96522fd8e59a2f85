"""One taste out of several: what two people both like, or one person's taste without another's."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..errors import EncoderMismatchError, ShapeError
from .person import Taste

__all__ = ["blend_tastes"]

DIRECTIONS = 64  # of the posterior that are kept, as many as a file keeps
NAME = 30  # characters of each name


def blend_tastes(tastes: Sequence[Taste], weights: Sequence[float]) -> Taste:
    """Add tastes up: utility of an image = sum of weight · utility by each taste.

    Utilities are in nats, so that who answered more, and more decidedly, has more say at the same weight.

    The posterior is that of independent people, with c a weight, v a prior variance and G a gain:
    covariance = sum c² v (I − G G') = V (I − H H') with V = sum c² v and H = the columns c sqrt(v / V) G of all.

    Args:
        tastes: At least one, all of one encoder.
        weights: As many numbers; a negative one turns a taste around, 0 leaves it out.

    Returns:
        A taste without pairs, which steers along its direction. `answers` counts those of all that take part, and
        `base` is theirs where they agree.

    Raises:
        EncoderMismatchError: two were learned with different encoders; both are named.
        ShapeError: another number of weights, none other than 0, not a number, or tastes that hold NaN.
    """
    if len(tastes) != len(weights) or not all(math.isfinite(weight) for weight in weights):
        found = ", ".join(f"{weight:g}" for weight in weights)
        raise ShapeError(
            f"Cannot blend {len(tastes)} tastes: weights are {found or 'none'}; expected a number for each."
        )
    parts = [(taste, float(weight)) for taste, weight in zip(tastes, weights, strict=True) if weight != 0]
    if not parts:
        raise ShapeError("Cannot blend tastes: every weight is 0; expected one that is not. Raise a weight.")
    first = parts[0][0]
    for taste, _ in parts:
        _require_alike(first, taste)
    variance = sum(weight * weight * taste.prior_variance for taste, weight in parts)
    if not 0 < variance < math.inf:
        raise ShapeError(
            f"Cannot blend tastes: weights up to {max(abs(weight) for _, weight in parts):g}; expected some about 1."
        )
    text = [taste.text_weights for taste, _ in parts]
    bases = {taste.base for taste, _ in parts}
    return Taste(
        weights=_sum([taste.weights for taste, _ in parts], [weight for _, weight in parts]),
        encoder=first.encoder,
        encoder_name=first.encoder_name,
        person=_names(parts),
        answers=sum(taste.answers for taste, _ in parts),
        base=first.base if len(bases) == 1 else "",
        prior_variance=variance,
        gain=_gain(parts, variance),
        text_weights=_sum([t for t in text if t is not None], [w for _, w in parts]) if _all_alike(text) else None,
        created=max(taste.created for taste, _ in parts),
    )


def _require_alike(first: Taste, other: Taste) -> None:
    if other.encoder != first.encoder:
        raise EncoderMismatchError(
            f"Cannot blend the tastes of {first.person!r} and {other.person!r}: they were learned with "
            f"{first.encoder_name or 'one encoder'} ({first.encoder[:12]}) and {other.encoder_name or 'another'} "
            f"({other.encoder[:12]}); expected the same. Fit both with one encoder."
        )
    if other.width != first.width:
        raise ShapeError(
            f"Cannot blend the tastes of {first.person!r} and {other.person!r}: {first.width} and {other.width} wide; "
            "expected the same. Get the files again."
        )
    if not bool(torch.isfinite(other.weights).all()):
        raise ShapeError(f"Cannot blend the taste of {other.person!r}: it holds NaN or infinity. Learn it again.")


def _sum(vectors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    out = torch.zeros(vectors[0].shape, dtype=torch.float64)
    for vector, weight in zip(vectors, weights, strict=True):
        out += weight * vector.detach().cpu().double()
    return out.float()


def _all_alike(vectors: Sequence[Tensor | None]) -> bool:
    return len({None if vector is None else tuple(vector.shape) for vector in vectors} - {None}) == 1 and all(
        vector is not None for vector in vectors
    )


def _gain(parts: Sequence[tuple[Taste, float]], variance: float) -> Tensor | None:
    """(D, r) float32, r at most `DIRECTIONS`; None when nothing is known of any."""
    columns = []
    for taste, weight in parts:
        known = taste.gain
        if known is None and taste.fitted is not None:
            known = torch.from_numpy(taste.fitted.posterior.leading_gain(DIRECTIONS))
        if known is not None:
            columns.append(weight * math.sqrt(taste.prior_variance / variance) * known.detach().cpu().double().numpy())
    if not columns:
        return None
    gain = np.concatenate(columns, axis=1)
    if gain.shape[1] > min(DIRECTIONS, gain.shape[0]):
        vectors, values, _ = np.linalg.svd(gain, full_matrices=False)
        gain = (vectors * values)[:, :DIRECTIONS]
    return torch.from_numpy(np.ascontiguousarray(gain, dtype=np.float32))


def _names(parts: Sequence[tuple[Taste, float]]) -> str:
    """Such as "ann + 0.5 bob − cleo"."""
    out = ""
    for taste, weight in parts:
        name = taste.person if len(taste.person) <= NAME else taste.person[: NAME - 1] + "…"
        sign = ("− " if weight < 0 else "") if not out else (" − " if weight < 0 else " + ")
        out += sign + ("" if abs(weight) == 1 else f"{abs(weight):g} ") + name
    return out
