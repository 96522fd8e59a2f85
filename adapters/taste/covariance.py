"""A prior's covariance, and the factor that turns the unit normal into it: weights = prior_mean + factor @ v.

A factor is a number (all directions alike), the lower Cholesky factor (D, D) of a full covariance, or a `Stretch`.

Shapes: M rows, D width, k directions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .likelihood import Array

__all__ = ["Factor", "Stretch", "factor_times", "smallest_and_largest", "times_factor"]


@dataclass(frozen=True)
class Stretch:
    """The covariance variance * (I + directions' (diag(shares) - I) directions), which costs D k to use, not D^2.

    Attributes:
        variance: across all other directions, and the largest, > 0.
        directions: (k, D) orthonormal rows.
        shares: (k,) of `variance` that is left along each direction, in (0, 1].
    """

    variance: float
    directions: Array
    shares: Array

    @property
    def scale(self) -> float:
        """Standard deviation across all other directions."""
        return float(np.sqrt(self.variance))

    def relative(self, rows: Array) -> Array:
        """rows (M, D) times the symmetric factor of the covariance at variance 1."""
        return np.asarray(rows + ((rows @ self.directions.T) * (np.sqrt(self.shares) - 1.0)) @ self.directions)

    def after(self, other: Stretch) -> Stretch:
        """The covariance factor @ other's covariance @ factor with this one's symmetric factor.

        I - H H' with H = [directions' sqrt(1 - shares), factor other.directions' sqrt(1 - other.shares)], both
        factors at variance 1: the left singular vectors of H are its directions.
        """
        own = self.directions.T * np.sqrt(1.0 - self.shares)
        others = self.relative(other.directions).T * np.sqrt(1.0 - other.shares)
        directions, sizes, _ = np.linalg.svd(np.concatenate([own, others], axis=1), full_matrices=False)
        return Stretch(self.variance * other.variance, directions.T, np.maximum(1.0 - sizes**2, 1e-12))


Factor = float | Array | Stretch


def times_factor(rows: Array, factor: Factor) -> Array:
    """rows (M, D) @ factor: vectors in units of the prior's standard deviation."""
    if isinstance(factor, Stretch):
        return factor.scale * factor.relative(rows)
    return np.asarray(rows @ factor if isinstance(factor, np.ndarray) else rows * factor)


def factor_times(factor: Factor, columns: Array) -> Array:
    """factor @ columns (D,) or (D, M)."""
    if isinstance(factor, Stretch):
        return factor.scale * (factor.relative(columns[None])[0] if columns.ndim == 1 else factor.relative(columns.T).T)
    return np.asarray(factor @ columns if isinstance(factor, np.ndarray) else factor * columns)


def smallest_and_largest(factor: Factor) -> tuple[float, float]:
    """Standard deviations of the prior across directions: no smaller and no larger ones; of a full one, a guess."""
    if isinstance(factor, Stretch):
        return factor.scale * float(np.sqrt(factor.shares.min(initial=1.0))), factor.scale
    if isinstance(factor, np.ndarray):
        diagonal = np.diag(factor)
        return 1e-3 * float(diagonal.min()), 1e3
    return factor, factor
