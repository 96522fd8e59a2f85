"""Where the posterior peaks: the minimum of likelihood + |v|^2 / 2 over v in R^D, with `z = offset + rows @ v`.

The prior has been turned into the unit normal before (`weights = prior_mean + factor @ v`), so the Hessian is at
least the identity everywhere: one minimum, and |v - minimum| <= |gradient|.

Three ways, by size, to the same point:

- up to `DENSE` answers: Newton on the M x M Gram matrix (the minimum lies in the span of the rows);
- up to `DENSE` dimensions: Newton on the D x D Hessian, which is formed again only while it pays; of many answers for
  each dimension, every eighth gives the point to start from, and a step or two with all of them does the rest;
- more of both: Newton with conjugate gradients. Gradients are float64; only the inner products with the Hessian run in
  float32, where the rows fit a core's cache, so each outer step is one round of iterative refinement. Forming a
  768 x 768 Hessian once costs more than the whole fit.

All of it is numpy: torch's thread pool beside numpy's makes small steps wait for each other.

Shapes: M rows, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .likelihood import Array, Curvature, Likelihood

DENSE = 200
_OUTER = 60
_INNER = 250
_LAST_STEP = 1e-3  # where a step is cheap, one more, which Newton makes with all digits
_KEEP = 0.03  # a Hessian that shrank the gradient so much is good for another step
_MANY = 64  # answers for each dimension
_EVERY = 8
_ROUGH = 1e-3  # of the gradient at the prior's mean: an eighth of the answers doesn't know it better


@dataclass(frozen=True)
class Minimum:
    """The minimum found.

    Attributes:
        v: (D,) in units of the prior's standard deviation.
        log_odds: (M,) at the minimum.
        value: the objective there, in nats.
        steps: Newton steps taken.
    """

    v: Array
    log_odds: Array
    value: float
    steps: int


def minimise(likelihood: Likelihood, rows: Array, scale: float, offset: Array, tolerance: float) -> Minimum:
    """Minimise likelihood(offset + scale * rows @ v) + |v|^2 / 2.

    Args:
        likelihood: of the M log-odds.
        rows: (M, D) float64 differences, multiplied with the prior's factor where that is a matrix.
        scale: the prior's standard deviation where it is a number, else 1.
        offset: (M,) log-odds under the prior's mean.
        tolerance: on the norm of the gradient by v.
    """
    count, width = rows.shape
    if count == 0:
        return Minimum(np.zeros(width), offset, 0.0, 0)
    if min(count, width) > DENSE:
        found = _newton_cg(likelihood, rows, scale, offset, tolerance)
        if found is not None:
            return found
    if count <= width:
        return _newton_dual(likelihood, rows * scale, offset, _LAST_STEP * tolerance)
    if count < _MANY * max(width, _MANY) or likelihood.blocks:
        return _newton_primal(likelihood, rows, scale, offset, np.zeros(width), _LAST_STEP * tolerance)
    return _newton_primal(likelihood, rows, scale, offset, _rough(likelihood, rows, scale, offset), tolerance)


def _rough(likelihood: Likelihood, rows: Array, scale: float, offset: Array) -> Array:
    """Roughly the minimum (D,) of pairs and ties: that of every eighth, counted eight times."""
    some = slice(None, None, _EVERY)
    few, few_offset = np.ascontiguousarray(rows[some]), offset[some]
    part = Likelihood(few, likelihood.target[some], _EVERY * likelihood.weight[some])
    tolerance = _ROUGH * scale * float(np.linalg.norm(part.gradient(few_offset) @ few))
    return minimise(part, few, scale, few_offset, tolerance).v


def _newton_dual(likelihood: Likelihood, rows: Array, offset: Array, tolerance: float) -> Minimum:
    """v = rows' a; Newton on a (M,). Rasmussen & Williams 2006, algorithm 3.1, with a line search."""
    gram = rows @ rows.T
    a = np.zeros(len(rows))
    z = offset
    smooth = 0.0
    value = likelihood.value(z)
    steps = 0
    for steps in range(1, _OUTER + 1):  # noqa: B007 - reported
        gradient = likelihood.gradient(z)
        # The gradient by v is rows' residual.
        residual = gradient + a
        if float(residual @ (gram @ residual)) <= tolerance**2:
            break
        curvature = likelihood.curvature(z)
        target = curvature.times(z - offset) - gradient
        da = target - curvature.times(solve_span(gram, curvature, gram @ target)) - a
        dz = gram @ da
        slope = float(gradient @ dz + a @ dz)
        linear, square = float(a @ dz), float(da @ dz)
        step = _line_search(likelihood, z, dz, value, smooth, linear, square, slope)
        if step is None:
            break
        t, value = step
        a = a + t * da
        z = offset + gram @ a
        smooth += t * linear + 0.5 * t * t * square
    return Minimum(rows.T @ a, z, value, steps)


def solve_span(gram: Array, curvature: Curvature, right: Array) -> Array:
    """(I + gram curvature)^-1 right, through the symmetric I + root gram root, which is never near singular."""
    root = curvature.root()
    # (I + G H)^-1 y = y - G root (I + root G root)^-1 root y
    inner = root.times(root.times(gram).T)
    inner[np.diag_indices_from(inner)] += 1.0
    solved = np.linalg.solve(inner, root.times(right))
    return np.asarray(right - gram @ root.times(solved))


def _newton_primal(
    likelihood: Likelihood, rows: Array, scale: float, offset: Array, start: Array, tolerance: float
) -> Minimum:
    """Newton on v (D,) with the Hessian I + rows' curvature rows formed."""
    v = start
    z = offset + scale * (rows @ v)
    value = likelihood.value(z) + 0.5 * float(v @ v)
    hessian: Array = np.zeros((0, 0))
    before = 0.0
    steps = 0
    for steps in range(1, _OUTER + 1):  # noqa: B007 - reported
        gradient = scale * (likelihood.gradient(z) @ rows) + v
        norm = float(np.linalg.norm(gradient))
        if norm <= tolerance:
            break
        if not norm < _KEEP * before:
            hessian = precision(likelihood.curvature(z).scaled(scale * scale), rows)
        before = norm
        direction = -np.linalg.solve(hessian, gradient)
        dz = scale * (rows @ direction)
        linear, square = float(v @ direction), float(direction @ direction)
        step = _line_search(likelihood, z, dz, value, 0.5 * float(v @ v), linear, square, float(gradient @ direction))
        if step is None:
            break
        t, value = step
        v = v + t * direction
        z = z + t * dz
    return Minimum(v, z, value, steps)


def precision(curvature: Curvature, rows: Array) -> Array:
    """The Hessian by v (D, D): I + rows' curvature rows."""
    hessian = curvature.sandwich(rows)
    hessian[np.diag_indices_from(hessian)] += 1.0
    return hessian


def _newton_cg(likelihood: Likelihood, rows: Array, scale: float, offset: Array, tolerance: float) -> Minimum | None:
    """Truncated Newton with a float32 inner solver; None where float32 does not reach the tolerance."""
    rows32 = rows.astype(np.float32)
    v = np.zeros(rows.shape[1])
    z = offset
    value = likelihood.value(z)
    gradient = scale * (likelihood.gradient(z) @ rows)
    norm = first = float(np.linalg.norm(gradient))
    for steps in range(_OUTER):
        if norm <= tolerance:
            return Minimum(v, z, value, steps)
        curvature = likelihood.curvature(z).scaled(scale * scale, np.float32)
        # Solve loosely while far away, and never better than the tolerance asks for.
        forcing = max(min(0.3, (norm / first) ** 0.5), 0.5 * tolerance / norm, 1e-3)
        direction = norm * _conjugate_gradients(rows32, curvature, gradient / -norm, forcing).astype(np.float64)
        dz = scale * (rows @ direction)
        linear, square = float(v @ direction), float(direction @ direction)
        step = _line_search(likelihood, z, dz, value, 0.5 * float(v @ v), linear, square, float(gradient @ direction))
        if step is None:
            return None
        t, value = step
        v = v + t * direction
        z = z + t * dz
        gradient = scale * (likelihood.gradient(z) @ rows) + v
        norm = float(np.linalg.norm(gradient))
    return None


def _conjugate_gradients(rows: Array, curvature: Curvature, right: Array, forcing: float) -> Array:
    """Solve (I + rows' curvature rows) x = right, |right| = 1, to a residual of `forcing`, in the rows' precision."""
    residual = right.astype(rows.dtype)
    solution = np.zeros_like(residual)
    direction = residual.copy()
    power = residual @ residual
    for _ in range(_INNER):
        image = curvature.times(rows @ direction) @ rows
        image += direction
        length = power / (direction @ image)
        solution += length * direction
        residual -= length * image
        previous, power = power, residual @ residual
        if not power > forcing * forcing:  # or NaN: too large for float32, which the line search notices
            break
        direction *= power / previous
        direction += residual
    return solution


def _line_search(
    likelihood: Likelihood,
    z: Array,
    dz: Array,
    value: float,
    smooth: float,
    linear: float,
    square: float,
    slope: float,
) -> tuple[float, float] | None:
    """Halve the Newton step until the objective falls enough (Armijo); None when it can't fall any more.

    `smooth` is |v|^2 / 2 here; along the step it grows by t * linear + t^2 / 2 * square.
    """
    noise = 1e-13 * max(1.0, abs(value))
    if not (np.isfinite(slope) and slope < 0.0):
        return None
    t = 1.0
    for _ in range(40):
        trial = likelihood.value(z + t * dz) + smooth + t * linear + 0.5 * t * t * square
        if trial <= value + 1e-4 * t * slope + noise:
            return t, trial
        t *= 0.5
    return None
