"""When to stop: what more answers would still add, as the posterior expects it.

For a pair whose log-odds are known as z ~ Normal(m, s^2), the best guess is right with probability E[sigmoid(z)] or one
minus that. After more answers the variance is smaller, s'^2, and the mean has moved: m' ~ Normal(m, s^2 - s'^2). So the
accuracy then is the mean over m' of sigmoid(|m'| / sqrt(1 + pi s'^2 / 8)), MacKay's probit approximation. The variance
needs no answers, only how informative they would be: so many more random pairs among the person's own pictures.

A posterior expects that people are what the model says, with a utility linear in the vectors. Of simulated people, half
of whom are not, 40 to 80 % of the gain that it expected came true; so `advise` counts 70 % of it.

Source: MacKay 1992, "The evidence framework applied to classification networks", equation 10 for the approximation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .bradley_terry import BradleyTerry
from .likelihood import Array, sigmoid

__all__ = ["Advice", "advise", "expected_accuracy", "expected_course", "worth_it"]

AHEAD = 100  # answers looked ahead
WORTH = 0.02  # of accuracy that so many more answers should add to be worth it
STEPS = (0, 10, 20, 40, 60, 80, 100, 150, 200, 300, 400, 600)  # more answers looked at
COMES_TRUE = 0.7  # of the gain that a posterior expects, on people other than those of the study `stop`
FEWEST = 10  # answers before anything is said
_PAIRS = 200  # looked at
_NODES = 15


@dataclass(frozen=True)
class Advice:
    """Whether to go on.

    Attributes:
        enough: more answers will hardly change the accuracy.
        text: one plain sentence.
        more: how many more answers are worth it, about; 0 when enough, None when there are too few to say.
        gain: expected gain of accuracy by the next `AHEAD` answers, in [0, 0.5]; None likewise.
        accuracy: expected of the taste as it is, in [0.5, 1]; None likewise.
        points: gain of accuracy by `more` answers, in [0, 0.5].
    """

    enough: bool
    text: str
    more: int | None = None
    gain: float | None = None
    accuracy: float | None = None
    points: float = 0.0


def expected_accuracy(mean: Array, variance: Array, later: Array) -> float:
    """Return the accuracy expected once the pairs' log-odds are known to a variance of `later`, from what is known now.

    Args:
        mean, variance: (P,) of the log-odds now.
        later: (P,) their variance then, at most `variance`.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    moved = np.sqrt(np.maximum(variance - later, 0.0))[:, None]
    then = np.abs(mean[:, None] + moved * nodes) / np.sqrt(1.0 + np.pi * later[:, None] / 8.0)
    return float((sigmoid(then) @ (weights / weights.sum())).mean())


def expected_course(model: BradleyTerry, vectors: Array, seed: int = 0) -> Array:
    """Return the accuracy expected after each of `STEPS` more answers, (len(STEPS),), never falling.

    Args:
        model: fitted.
        vectors: (M, D) pictures of the kind that will be asked about, M >= 4. Half of them make the pairs that are
            answered, the other half those that are predicted.
        seed: of the pairs drawn.
    """
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(vectors))
    asked, tested = (_pairs(vectors[half], generator) for half in np.array_split(order, 2))
    both = np.concatenate([asked, tested])
    covariance = np.asarray(model.posterior.covariance(both))
    mean, own = both @ np.asarray(model.weights_), np.diag(covariance)
    first = len(asked)
    likely = sigmoid(mean[:first] / np.sqrt(1.0 + np.pi * own[:first] / 8.0))
    root = np.sqrt(likely * (1.0 - likely))
    sizes, turn = np.linalg.eigh(root[:, None] * covariance[:first, :first] * root)
    known = ((covariance[first:, :first] * root) @ turn) ** 2
    accuracy = []
    for more in STEPS:
        share = more / first
        later = own[first:] - known @ (share / (1.0 + share * np.maximum(sizes, 0.0)))
        accuracy.append(expected_accuracy(mean[first:], own[first:], np.maximum(later, 0.0)))
    return np.maximum.accumulate(accuracy)


def _pairs(vectors: Array, generator: np.random.Generator) -> Array:
    """(P, D) differences of pairs of different pictures."""
    first, second = np.triu_indices(len(vectors), 1)
    if len(first) > _PAIRS:
        drawn = generator.choice(len(first), _PAIRS, replace=False)
        first, second = first[drawn], second[drawn]
    return np.asarray(vectors[first] - vectors[second])


def advise(model: BradleyTerry | None, vectors: Array, answers: int) -> Advice:
    """Say whether more answers are worth it.

    Enough is where the next 100 answers are expected to add less than 2 points of accuracy. Before that, `more` is
    after how many that will be so.

    Args:
        model: fitted on all answers; None where there is nothing to learn from.
        vectors: (M, D) pictures of the kind that will be asked about.
        answers: how many there are.
    """
    if model is None or answers < FEWEST or len(vectors) < 4:
        missing = max(1, FEWEST - answers)
        return Advice(False, f"Too few answers to say how many are enough: give {missing} more first.")
    expected = expected_course(model, vectors)
    accuracy = expected[0] + COMES_TRUE * (expected - expected[0])
    ahead = np.interp(np.asarray(STEPS) + AHEAD, STEPS, accuracy) - accuracy
    now, gain = float(accuracy[0]), float(ahead[0])
    if gain < WORTH:
        return Advice(True, "Good enough: more clicks will hardly change it.", 0, gain, now)
    last = STEPS[-1] - AHEAD
    more = next((step for step, left in zip(STEPS, ahead, strict=True) if left < WORTH and step <= last), last)
    points = float(np.interp(more, STEPS, accuracy)) - now
    return Advice(False, worth_it(more, points), more, gain, now, points)


def worth_it(more: int, points: float) -> str:
    """Say that so many more answers are worth it, and what they would add to the accuracy, in [0, 0.5]."""
    whole = round(100.0 * points)
    gained = f"about {whole} points" if whole > 1 else "about a point" if whole else "less than a point"
    return f"About {more} more answers are worth it: they would add {gained} of accuracy."
