"""The Bradley-Terry likelihood as a function of M log-odds, whatever kind of answer they came from.

Every answer becomes rows of differences of image vectors, so that `z = differences @ weights` is all that the
likelihood sees:

- a pair: one row, chosen - rejected, target 1;
- a tie: one row, first - second, target 1/2 (half a win both ways);
- a ranking of k images, best first (Plackett-Luce): k - 1 rows, each image minus the last one;
- the best of k images (the first stage of a ranking): the same rows, and one stage that counts instead of k - 1;
- the best of k images, and whether it is much better than the others: see `graded_choices`.

Shapes: M rows, D width, P pairs and ties together, R rankings or choices of one length k.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]

_PIECE = 1024  # rows


@dataclass(frozen=True)
class Block:
    """R rankings of one length: they own the rows `start : start + R * (k - 1)`, each ranking's rows together.

    Attributes:
        rows: k - 1 per ranking.
        stages: how many images were taken out one after the other, 1 to k - 1; the others have no order.
        weight: (R,) how often each counts, >= 0.
        much: (R,) whether the best is much better, 1 yes, 0 no, NaN not asked; None for rankings and plain choices.
        cut: what "much" is beyond, in nats.
    """

    start: int
    rankings: int
    rows: int
    stages: int
    weight: Array
    much: Array | None = None
    cut: float = 0.0

    @property
    def span(self) -> slice:
        """Where the rows of this block lie among the M."""
        return slice(self.start, self.start + self.rankings * self.rows)


@dataclass(frozen=True)
class Curvature:
    """Second derivative of the negative log-likelihood by the log-odds: diagonal, then small dense blocks.

    Shapes: diagonal (P,); one (R, k - 1, k - 1) per `Block`.
    """

    diagonal: Array
    dense: tuple[tuple[Block, Array], ...] = ()

    def times(self, vector: Array) -> Array:
        """Multiply (M,) or (M, K) from the left."""
        if not self.dense:
            return self.diagonal * vector if vector.ndim == 1 else self.diagonal[:, None] * vector
        flat = vector[:, None] if vector.ndim == 1 else vector
        out = np.empty_like(flat)
        count = len(self.diagonal)
        out[:count] = self.diagonal[:, None] * flat[:count]
        for block, matrices in self.dense:
            stacked = flat[block.span].reshape(block.rankings, block.rows, -1)
            out[block.span] = (matrices @ stacked).reshape(-1, flat.shape[1])
        return out[:, 0] if vector.ndim == 1 else out

    def root(self) -> Curvature:
        """The symmetric square root."""
        dense = []
        for block, matrices in self.dense:
            values, vectors = np.linalg.eigh(matrices)
            half = vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]
            dense.append((block, half @ vectors.transpose(0, 2, 1)))
        return Curvature(np.sqrt(self.diagonal), tuple(dense))

    def sandwich(self, rows: Array) -> Array:
        """rows' curvature rows (D, D) for rows (M, D); in pieces, so that what is in between stays in the cache."""
        total = np.zeros((rows.shape[1], rows.shape[1]))
        root = np.sqrt(self.diagonal)[:, None]
        for start in range(0, len(root), _PIECE):
            part = slice(start, min(start + _PIECE, len(root)))
            weighted = root[part] * rows[part]
            total += weighted.T @ weighted
        for block, matrices in self.dense:
            flat = rows[block.span]
            stacked = flat.reshape(block.rankings, block.rows, -1)
            total += flat.T @ (matrices @ stacked).reshape(flat.shape)
        return total

    def scaled(self, factor: float, dtype: npt.DTypeLike = np.float64) -> Curvature:
        """The curvature times `factor`, in another precision."""
        dense = tuple((block, (matrices * factor).astype(dtype)) for block, matrices in self.dense)
        return Curvature((self.diagonal * factor).astype(dtype), dense)


@dataclass(frozen=True)
class Likelihood:
    """Negative log-likelihood of all answers, in nats, with its first and second derivatives by the log-odds.

    Attributes:
        differences: (M, D) float64 rows; pairs and ties first, then the rankings.
        target: (P,) 1 for a pair, 1/2 for a tie.
        weight: (P,) how often each counts, >= 0.
        blocks: where the rankings and choices lie, one block per kind and length.
    """

    differences: Array
    target: Array
    weight: Array
    blocks: tuple[Block, ...] = ()

    def value(self, log_odds: Array) -> float:
        """Negative log-likelihood in nats at log_odds (M,)."""
        z = log_odds[: len(self.target)]
        softplus = np.maximum(z, 0.0) + np.log1p(np.exp(-np.abs(z)))
        total = float(self.weight @ (softplus - self.target * z))
        for block in self.blocks:
            if block.much is not None:
                total += float(block.weight @ self._graded(block, log_odds)[0])
                continue
            utilities, remaining = self._stages(block, log_odds)
            total += float(block.weight @ (remaining - utilities[:, : block.stages]).sum(axis=1))
        return total

    def gradient(self, log_odds: Array) -> Array:
        """First derivative (M,) of `value`."""
        z = log_odds[: len(self.target)]
        pairs = self.weight * (sigmoid(z) - self.target)
        if not self.blocks:
            return pairs
        parts = [pairs]
        for block in self.blocks:
            if block.much is not None:
                parts.append((block.weight[:, None] * self._graded(block, log_odds)[1]).reshape(-1))
                continue
            excess = self._shares(block, log_odds).sum(axis=1)
            excess[:, : block.stages] -= 1.0
            parts.append(np.asarray(block.weight[:, None] * excess, dtype=np.float64).reshape(-1))
        return np.concatenate(parts)

    def curvature(self, log_odds: Array) -> Curvature:
        """Second derivative of `value`: positive semi-definite, so the objective with a prior is strictly convex.

        Of graded choices what is above that, see there.
        """
        probability = sigmoid(log_odds[: len(self.target)])
        dense = []
        for block in self.blocks:
            if block.much is not None:
                dense.append((block, block.weight[:, None, None] * self._graded(block, log_odds)[2]))
                continue
            shares = self._shares(block, log_odds)
            diagonal = shares.sum(axis=1)[:, :, None] * np.eye(block.rows)
            dense.append((block, block.weight[:, None, None] * (diagonal - shares.transpose(0, 2, 1) @ shares)))
        return Curvature(self.weight * probability * (1.0 - probability), tuple(dense))

    def _graded(self, block: Block, log_odds: Array) -> tuple[Array, Array, Array]:
        rows = log_odds[block.span].reshape(block.rankings, block.rows)
        return graded_choices(rows, np.zeros(len(rows)) if block.much is None else block.much, block.cut)

    def _stages(self, block: Block, log_odds: Array) -> tuple[Array, Array]:
        """Utilities (R, k) with the last image at 0, and log-sum-exp (R, stages) of those left at each stage."""
        rows = log_odds[block.span].reshape(block.rankings, block.rows)
        utilities = np.concatenate([rows, np.zeros((block.rankings, 1))], axis=1)
        remaining = np.logaddexp.accumulate(utilities[:, ::-1], axis=1)[:, ::-1]
        return utilities, remaining[:, : block.stages]

    def _shares(self, block: Block, log_odds: Array) -> Array:
        """(R, stage, image): chance of each image to be taken next; the last image is left out, it has no row."""
        utilities, remaining = self._stages(block, log_odds)
        shares = np.exp(np.minimum(utilities[:, None, :-1] - remaining[:, :, None], 0.0))
        return np.triu(shares)


def sigmoid(z: Array) -> Array:
    """1 / (1 + exp(-z)); exp may overflow to infinity on the way, the result is right."""
    with np.errstate(over="ignore"):
        return np.asarray(1.0 / (1.0 + np.exp(-z)))


def graded_choices(rows: Array, much: Array, cut: float) -> tuple[Array, Array, Array]:
    """Return value (R,), gradient (R, k - 1) and curvature (R, k - 1, k - 1) of choices that say how much.

    With z the picked image's utility minus the log-sum-exp of all others', and Gumbel noise as in Plackett-Luce, what
    is felt above the best of the others is z plus logistic noise. So, as for two images (`grades.py`),

        P(much) = sigmoid(z - c),   P(not much) = sigmoid(z) sigmoid(c - z) (1 - e^-c),   P(not asked) = sigmoid(z)

    where 1 - e^-c is left to `grades.log_share`. "Not much" is not concave in the others' utilities where z is above
    c / 2; what is negative in the curvature is left out there, and a step towards the minimum stays one.

    Args:
        rows: (R, k - 1) utilities minus the last image's; the first is the picked one's.
        much: (R,) 1, 0, or NaN where nobody was asked.
        cut: c, in nats.
    """
    others = np.concatenate([rows[:, 1:], np.zeros((len(rows), 1))], axis=1)
    best = np.logaddexp.reduce(others, axis=1)
    share = np.exp(others - best[:, None])[:, :-1]
    z, little = rows[:, 0] - best, much == 0.0
    beyond = z - np.where(much == 1.0, cut, 0.0)
    up, down = sigmoid(beyond), np.where(little, sigmoid(z - cut), 0.0)
    value = np.logaddexp(0.0, -beyond) + np.where(little, np.logaddexp(0.0, z - cut), 0.0)
    slope, bend = up - 1.0 + down, up * (1.0 - up) + down * (1.0 - down)  # by z
    by_rows = np.concatenate([np.ones((len(rows), 1)), -share], axis=1)
    curvature = bend[:, None, None] * by_rows[:, :, None] * by_rows[:, None, :]
    spread = share[:, :, None] * (np.eye(share.shape[1]) - share[:, None, :])
    curvature[:, 1:, 1:] += np.maximum(-slope, 0.0)[:, None, None] * spread
    return value, slope[:, None] * by_rows, curvature
