"""The learner: a Bradley-Terry model with one weight per dimension of the image vectors, and its posterior.

    P(left > right) = sigmoid(utility(left) - utility(right)),   utility(x) = x . weights,   weights ~ Normal prior

Shapes: N comparisons, T ties, R rankings of k images, D width, M vectors asked about.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import NotFittedError, ShapeError
from .answer_rows import to_likelihood
from .arrays import Matrix, like, require_finite, to_array
from .covariance import Factor, Stretch, factor_times, smallest_and_largest
from .likelihood import Array, Curvature, Likelihood, sigmoid
from .posterior import Posterior, laplace, log_determinant
from .solve import minimise

_GRADIENT = 5e-7  # norm of the objective's gradient by the weights at which a fit ends, at most
_WEIGHTS = 5e-7  # and the largest distance to the optimum that the gradient leaves open


class BradleyTerry:
    """One person's taste as a Bradley-Terry posterior over weights.

    The fit minimises, in nats,

        sum_n sample_weight_n * -log sigmoid(u(chosen_n) - u(rejected_n))
        + sum_ties 1/2 * [-log sigmoid(u(first) - u(second)) - log sigmoid(u(second) - u(first))]
        + sum_rankings -log Plackett-Luce(u(best), ..., u(last))
        + sum_choices -log [exp u(picked) / sum_images exp u(image)]
        + 1/2 * (weights - prior_mean)' prior_covariance^-1 (weights - prior_mean)

    in float64, and approximates the posterior around the minimum by a Gaussian (Laplace): its covariance is the
    inverse of the objective's Hessian.

    Args:
        prior_variance: variance of each weight before any answer, > 0, in nats squared. For unit-norm vectors of
            images that differ by |chosen - rejected| = d, the log-odds of a pair have variance prior_variance * d^2
            before any answer. Not the inverse of a penalty on the mean loss, and not twice that: scikit-learn's
            LogisticRegression(C=prior_variance, fit_intercept=False) has the same optimum.

    Attributes:
        weights_: (D,) float64 the peak of the posterior; a torch tensor where `chosen` was one, else numpy.
        n_features_in_: D.
        n_iter_: Newton steps of the last fit.

    Source: Bradley & Terry 1952; ties as half a win both ways, as in Hunter 2004 section 1; rankings by Plackett 1975.
    """

    weights_: Any
    n_features_in_: int
    n_iter_: int
    _whole: BradleyTerry | None = None  # the model that this one is a part of

    def __init__(self, prior_variance: float = 1.0) -> None:
        self.prior_variance = prior_variance

    def __repr__(self) -> str:
        return f"BradleyTerry(prior_variance={self.prior_variance!r})"

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments, as scikit-learn asks for them."""
        return {"prior_variance": self.prior_variance}

    def set_params(self, **params: Any) -> BradleyTerry:
        """Set constructor arguments by name."""
        for name, value in params.items():
            if name != "prior_variance":
                raise TypeError(f"Cannot set {name!r}: BradleyTerry has prior_variance only.")
            self.prior_variance = value
        return self

    def fit(
        self,
        chosen: Matrix,
        rejected: Matrix,
        ties: tuple[Matrix, Matrix] | None = None,
        orderings: Matrix | Sequence[Matrix] | None = None,
        prior_mean: Matrix | None = None,
        prior_covariance: Matrix | Stretch | None = None,
        sample_weight: Matrix | None = None,
        choices: Matrix | Sequence[Matrix] | None = None,
        graded: tuple[Array, float] | None = None,
    ) -> BradleyTerry:
        """Learn from answers; nothing is kept from earlier fits.

        Args:
            chosen: (N, D) vectors of the images that were preferred; N = 0 gives the prior back.
            rejected: (N, D) vectors of the others, row by row.
            ties: two (T, D): pairs that were called equally good.
            orderings: rankings, best image first: (R, k, D), or a list of (k, D) where k may differ.
            prior_mean: (D,) weights expected before any answer; zero when left out.
            prior_covariance: (D, D), positive definite, or a `Stretch`; takes the place of prior_variance * I.
            sample_weight: (N,) >= 0, how often each comparison counts; or one number for every answer, in the order
                of comparisons, ties, orderings and choices.
            choices: the first image was picked out of the others, which have no order: (R, k, D), or a list of (k, D).
                The first stage of Plackett-Luce; the best of two is a comparison.
            graded: Of the choices, (R,) whether the picked image is much better than all others, 1 yes, 0 no, NaN where
                nobody was asked; and what that is beyond, in nats (`likelihood.graded_choices`).

        Returns:
            self.

        Raises:
            ShapeError: widths or lengths differ, or there is NaN or infinity; the message names the argument.
        """
        with np.errstate(all="ignore"):
            width = _width(chosen, rejected, ties, orderings, choices, prior_mean)
            likelihood = to_likelihood(width, chosen, rejected, ties, orderings, sample_weight, choices, graded)
            self._fit(width, likelihood, prior_mean, prior_covariance)
        self.weights_ = like(self._weights, chosen)
        return self

    def _fit(
        self, width: int, likelihood: Likelihood, prior_mean: Matrix | None, prior_covariance: Matrix | Stretch | None
    ) -> None:
        mean: Array = np.zeros(width)
        if prior_mean is not None:
            mean = require_finite("prior_mean", to_array("prior_mean", prior_mean)).astype(np.float64)
            if mean.shape != (width,):
                raise ShapeError(f"Cannot use `prior_mean`: found shape {mean.shape}; expected ({width},).")
        factor = self._prior_factor(prior_covariance, width)
        rows, scale = likelihood.differences, 1.0
        if isinstance(factor, np.ndarray):
            rows = rows @ factor
        elif isinstance(factor, Stretch):
            rows, scale = factor.relative(rows), factor.scale
        else:
            scale = factor
        smallest, largest = smallest_and_largest(factor)
        tolerance = min(_GRADIENT * smallest, _WEIGHTS / max(1.0, largest))
        offset = likelihood.differences @ mean if mean.any() else np.zeros(len(rows))
        found = minimise(likelihood, rows, scale, offset, tolerance)
        self._weights = mean + factor_times(factor, found.v)
        self._factor, self._rows, self._scale = factor, rows, scale
        self._likelihood, self._minimum = likelihood, found
        self._posterior: Posterior | None = None
        self._whole = None
        self.n_features_in_ = width
        self.n_iter_ = found.steps

    @classmethod
    def from_posterior(cls, weights: Matrix, prior_variance: float, gain: Matrix | None = None) -> BradleyTerry:
        """Return a fitted model from what a file holds: weights (D,) and, if known, the posterior's gain (D, r)."""
        model = cls(prior_variance)
        model._weights = require_finite("weights", to_array("weights", weights)).astype(np.float64)
        factor = model._prior_factor(None, len(model._weights))
        known = np.zeros((len(model._weights), 0)) if gain is None else to_array("gain", gain).astype(np.float64)
        model._posterior = Posterior(factor, known)
        model.weights_ = like(model._weights, weights)
        model.n_features_in_ = len(model._weights)
        model.n_iter_ = 0
        return model

    def first_weights(self, width: int) -> BradleyTerry:
        """This model about the first `width` weights alone, whatever the others are; the evidence stays the same."""
        self._require_fitted()
        part = copy.copy(self)
        part._whole, part._posterior = self, None
        part._weights = self._weights[:width]
        part.weights_ = self.weights_[:width]
        part.n_features_in_ = width
        return part

    def utility(self, x: Matrix) -> Any:
        """Utility (M,) of vectors (M, D), in nats, up to a constant; higher is liked more."""
        return like(self._vectors("x", x) @ self._weights, x)

    def utility_variance(self, x: Matrix) -> Any:
        """Posterior variance (M,) of the utility of vectors (M, D), in nats squared."""
        return like(self.posterior.variance(self._vectors("x", x)), x)

    def utility_covariance(self, x: Matrix) -> Any:
        """Posterior covariance (M, M) of the utilities of vectors (M, D), in nats squared."""
        return like(self.posterior.covariance(self._vectors("x", x)), x)

    def log_odds(self, left: Matrix, right: Matrix) -> Any:
        """utility(left) - utility(right) (N,), in nats; above 0 where the left one would be chosen."""
        first, second = self._vectors("left", left), self._vectors("right", right)
        if len(first) != len(second):
            raise ShapeError(f"Cannot compare: {len(first)} vectors on the left, {len(second)} on the right.")
        return like((first - second) @ self._weights, left)

    def predict_proba(self, left: Matrix, right: Matrix) -> Any:
        """P(left is chosen over right) (N,) at the posterior's peak: sigmoid(log_odds)."""
        return like(sigmoid(to_array("left", self.log_odds(left, right))), left)

    @property
    def posterior(self) -> Posterior:
        """The Laplace posterior's covariance, worked out when first asked for."""
        self._require_fitted()
        if self._posterior is None and self._whole is not None:
            self._posterior = self._whole.posterior.first_weights(self.n_features_in_)
        elif self._posterior is None:
            self._posterior = laplace(self._factor, self._curvature(), self._rows)
        return self._posterior

    def log_evidence(self) -> float:
        """Laplace approximation of log P(answers | prior), in nats: how well this prior expected these answers."""
        self._require_fitted()
        determinant = log_determinant(self._curvature(), self._rows)
        smooth = 0.5 * float(self._minimum.v @ self._minimum.v)
        return -self._likelihood.value(self._minimum.log_odds) - smooth - 0.5 * determinant

    def _curvature(self) -> Curvature:
        """Of the likelihood at the minimum, by log-odds in units of the prior, whose scale is not in the rows."""
        return self._likelihood.curvature(self._minimum.log_odds).scaled(self._scale**2)

    def _prior_factor(self, covariance: Matrix | Stretch | None, width: int) -> Factor:
        if covariance is None:
            if not (np.isfinite(self.prior_variance) and self.prior_variance > 0):
                raise ShapeError(
                    f"Cannot use prior_variance = {self.prior_variance}; expected a finite number above 0."
                )
            return float(np.sqrt(self.prior_variance))
        if isinstance(covariance, Stretch):
            if covariance.directions.shape[1] != width:
                found = covariance.directions.shape[1]
                raise ShapeError(f"Cannot use `prior_covariance`: its directions have width {found}; expected {width}.")
            return covariance
        matrix = require_finite("prior_covariance", to_array("prior_covariance", covariance)).astype(np.float64)
        if matrix.shape != (width, width):
            raise ShapeError(f"Cannot use `prior_covariance`: found shape {matrix.shape}; expected ({width}, {width}).")
        try:
            return np.asarray(np.linalg.cholesky(0.5 * (matrix + matrix.T)))
        except np.linalg.LinAlgError as error:
            raise ShapeError(
                "Cannot use `prior_covariance`: it is not positive definite. Add a small multiple of the identity."
            ) from error

    def _require_fitted(self) -> None:
        if not hasattr(self, "weights_"):
            raise NotFittedError("Cannot use this taste: it has not learned yet. Call `fit` with comparisons first.")

    def _vectors(self, name: str, values: Matrix) -> Array:
        self._require_fitted()
        array = to_array(name, values)
        if array.ndim not in (1, 2) or array.shape[-1] != self.n_features_in_:
            raise ShapeError(
                f"Cannot use `{name}`: found shape {array.shape}; expected (N, {self.n_features_in_}) as in `fit`. "
                "Encode all images with one encoder."
            )
        return require_finite(name, np.atleast_2d(array)).astype(np.float64, copy=False)


def _width(chosen: Matrix, rejected: Matrix, ties: Any, orderings: Any, choices: Any, prior_mean: Matrix | None) -> int:
    """D, from the first argument that has one."""
    candidates = [chosen, rejected, *(() if ties is None else ties)]
    for lists in (orderings, choices):
        candidates.extend(() if lists is None else lists[:1])
    if prior_mean is not None:
        candidates.append([prior_mean] if isinstance(prior_mean, list) else prior_mean[None])
    for values in candidates:
        array = to_array("chosen", values)
        if array.ndim >= 2 and array.shape[-1] > 0:
            return int(array.shape[-1])
        if array.ndim == 1 and array.size > 0:
            raise ShapeError(f"Cannot use `chosen`: found shape {array.shape}; expected (N, D), one vector per row.")
    raise ShapeError(
        "Cannot fit a taste: no vector says how wide they are; expected (N, D). With no comparisons yet, pass arrays "
        "of shape (0, D)."
    )
