"""What is still unknown after a fit: the Laplace approximation's covariance.

    covariance = factor (I - gain gain') factor'      gain (D, r): what r answers took from the prior
               = factor kept kept' factor'            kept (D, D): what they left of it

The first form costs little for few answers, the second for more answers than dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .covariance import Factor, Stretch, times_factor
from .likelihood import Array, Curvature
from .solve import precision


@dataclass(frozen=True)
class Posterior:
    """Covariance of the weights.

    Attributes:
        factor: the prior's standard deviation, as in `covariance.py`.
        gain: (D, r), r = 0 when nothing was learned.
        kept: (D, D) or None; takes the place of gain.
    """

    factor: Factor
    gain: Array
    kept: Array | None = None

    def covariance(self, vectors: Array) -> Array:
        """Covariance (M, M) of the utilities of `vectors` (M, D), in nats squared."""
        whitened = self._whiten(vectors)
        if self.kept is not None:
            left = whitened @ self.kept
            return np.asarray(left @ left.T)
        learned = whitened @ self.gain
        return np.asarray(whitened @ whitened.T - learned @ learned.T)

    def variance(self, vectors: Array) -> Array:
        """The diagonal (M,) of `covariance`, without forming it."""
        whitened = self._whiten(vectors)
        if self.kept is not None:
            return _squares(whitened @ self.kept)
        return np.maximum(_squares(whitened) - _squares(whitened @ self.gain), 0.0)

    def leading_gain(self, count: int) -> Array:
        """The `count` directions (D, r <= count, D) in which most is known; without the rest, less seems known.

        covariance = prior_variance * (I - leading_gain leading_gain'), whether a prior that stretches or the answers
        took it from the prior variance: whoever reads that needs to know of one number and one matrix only.
        """
        stretch = self.factor if isinstance(self.factor, Stretch) else None
        if self.kept is not None:
            kept = self.kept if stretch is None else stretch.relative(self.kept.T).T
            values, vectors = np.linalg.eigh(kept @ kept.T)
            gain = vectors * np.sqrt(np.maximum(1.0 - values, 0.0))
            return np.asarray(gain[:, :count])
        gain = self.gain
        if stretch is not None:
            from_prior = stretch.directions.T * np.sqrt(1.0 - stretch.shares)
            gain = np.concatenate([from_prior, stretch.relative(gain.T).T], axis=1)
        if gain.shape[1] <= min(count, len(gain)):
            return gain
        left, sizes, _ = np.linalg.svd(gain, full_matrices=False)
        return np.asarray((left * sizes)[:, :count])

    def first_weights(self, width: int) -> Posterior:
        """The covariance of the first `width` weights, which the prior must not tie to the others."""
        factor = self.factor
        if isinstance(factor, Stretch):
            factor = replace(factor, directions=factor.directions[:, :width])
        elif isinstance(factor, np.ndarray):
            factor = factor[:width, :width]
        if self.kept is None:
            return Posterior(factor, self.gain[:width])
        kept = self.kept[:width]
        return Posterior(factor, self.gain[:width], np.linalg.cholesky(kept @ kept.T))

    def _whiten(self, vectors: Array) -> Array:
        return times_factor(vectors, self.factor)


def laplace(factor: Factor, curvature: Curvature, rows: Array) -> Posterior:
    """Return the posterior around the minimum, where the likelihood has this curvature; rows (M, D)."""
    count, width = rows.shape
    if count <= width:
        weighted = curvature.root().times(rows)
        return Posterior(factor, np.linalg.solve(np.linalg.cholesky(_one_plus(weighted @ weighted.T)), weighted).T)
    lower = np.linalg.cholesky(precision(curvature, rows))
    return Posterior(factor, np.zeros((width, 0)), np.linalg.inv(lower).T)


def log_determinant(curvature: Curvature, rows: Array) -> float:
    """log |I + rows' curvature rows|: twice the nats by which the answers shrank the prior's volume."""
    count, width = rows.shape
    if count <= width:
        weighted = curvature.root().times(rows)
        inner = _one_plus(weighted @ weighted.T)
    else:
        inner = precision(curvature, rows)
    return float(2.0 * np.log(np.diag(np.linalg.cholesky(inner))).sum())


def _one_plus(matrix: Array) -> Array:
    matrix[np.diag_indices_from(matrix)] += 1.0
    return matrix


def _squares(matrix: Array) -> Array:
    return np.asarray(np.einsum("ij,ij->i", matrix, matrix))
