"""The Bradley-Terry likelihood as a function of M log-odds, whatever kind of answer they came from.

Every answer becomes rows of differences of image vectors, so that `z = differences @ weights` is all that the
likelihood sees:

- a pair: one row, chosen - rejected, target 1;
- a tie: one row, first - second, target 1/2 (half a win both ways);
- a ranking of k images, best first (Plackett-Luce): k - 1 rows, each image minus the last one;
- the best of k images (the first stage of a ranking): the same rows, and one stage that counts instead of k - 1.

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
    """

    start: int
    rankings: int
    rows: int
    stages: int
    weight: Array

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
            excess = self._shares(block, log_odds).sum(axis=1)
            excess[:, : block.stages] -= 1.0
            parts.append(np.asarray(block.weight[:, None] * excess, dtype=np.float64).reshape(-1))
        return np.concatenate(parts)

    def curvature(self, log_odds: Array) -> Curvature:
        """Second derivative of `value`: positive semi-definite, so the objective with a prior is strictly convex."""
        probability = sigmoid(log_odds[: len(self.target)])
        dense = []
        for block in self.blocks:
            shares = self._shares(block, log_odds)
            diagonal = shares.sum(axis=1)[:, :, None] * np.eye(block.rows)
            dense.append((block, block.weight[:, None, None] * (diagonal - shares.transpose(0, 2, 1) @ shares)))
        return Curvature(self.weight * probability * (1.0 - probability), tuple(dense))

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
