"""Scores of pictures by other people's judges, where their weights are there, and who wins against whom.

PickScore, HPSv2 and the CLIP score are one thing with three sets of weights: 100 times the cosine of a picture and its
prompt in a CLIP's joint space. LAION's aesthetic score is a linear head on OpenAI's CLIP-L/14; its five layers have
nothing between them, so they are one. ImageReward is a BLIP: see
`image_reward.py`.

Sources: Kirstain et al. 2023, arXiv:2305.01569; Wu et al. 2023, arXiv:2306.09341; Schuhmann 2022, improved aesthetic
predictor. Shapes: N pictures, D joint width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike

from torch import Tensor

from ..errors import FileFormatError, ShapeError
from ..places import typed_path
from ..taste.shares import wilson_interval
from ..untrusted import unpickled

__all__ = ["Contest", "aesthetic_head", "agreement_with_prompts", "contest"]

MAX_FILE = 1 << 26  # bytes; LAION's has 3.7 MB
_WHAT = "LAION's aesthetic predictor for CLIP ViT-L/14 (sac+logos+ava1-l14-linearMSE)"


@dataclass(frozen=True)
class Contest:
    """Two sets of pictures, pair by pair.

    Attributes:
        wins: Share of the pairs where the first has the higher score; an equal score counts half.
        low, high: 95 % Wilson interval. pairs: How many.
    """

    wins: float
    low: float
    high: float
    pairs: int


def contest(first: Sequence[float], second: Sequence[float]) -> Contest:
    """Compare scores of the same places.

    By hand: (3, 1, 2) against (1, 1, 5) wins one, ties one and loses one: 50 %.

    Raises:
        ShapeError: none, or not as many on both sides.
    """
    if len(first) != len(second) or not first:
        raise ShapeError(f"Cannot compare {len(first)} scores with {len(second)}; expected as many, one or more.")
    won = sum(1.0 if one > other else 0.5 if one == other else 0.0 for one, other in zip(first, second, strict=True))
    return Contest(won / len(first), *wilson_interval(won, len(first)), len(first))


def agreement_with_prompts(images: Tensor, texts: Tensor) -> Tensor:
    """Return 100 times the cosine of each picture and its prompt (N,).

    Args:
        images, texts: (N, D) of unit norm, by the judge's CLIP.
    """
    return 100.0 * (images * texts).sum(dim=-1)


def aesthetic_head(path: str | PathLike[str]) -> tuple[Tensor, float]:
    """Return LAION's predictor as weights (D,) and a constant: score = image . weights + constant, about 1 to 10.

    Raises:
        FileFormatError: something else; nothing in it is run.
    """
    file = typed_path(path)
    state = unpickled(file, _WHAT, MAX_FILE)
    try:
        numbers = sorted({int(name.split(".")[1]) for name in state})
        layers = [(state[f"layers.{n}.weight"].double(), state[f"layers.{n}.bias"].double()) for n in numbers]
        weights, constant = layers[0]
        for weight, bias in layers[1:]:
            weights, constant = weight @ weights, weight @ constant + bias
        (row,), (last,) = weights, constant
    except Exception as error:  # names, kinds and shapes of something else, in any combination
        raise FileFormatError(f"Cannot read {file.name!r}: it is something else; expected {_WHAT}.") from error
    return row.float(), float(last)
