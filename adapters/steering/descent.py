"""The one loop of all ways of steering: progress, cancel, and steps as long as turns x by a given angle.

Shapes: C chunks, D joint width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import CancelledError
from .adapted import angle
from .objective import TasteObjective
from .settings import SteeringSettings

__all__ = ["Adam", "Cancelled", "Descent", "OnStep", "Sphere", "Steps", "descend"]

OnStep = Callable[[int, int], None]
Cancelled = Callable[[], bool]
Embedding = Callable[[], Tensor]


class Steps(Protocol):
    """Variables, and a direction to move them in, whose last step can be made longer or shorter."""

    variables: list[Tensor]

    def first_try(self, last: float | None) -> float:
        """Rate to try a step with, where nobody says; `last` is the one that the step before ended with."""

    def read(self, gradients: Sequence[Tensor | None]) -> None:
        """Take in the gradients of one step; None for variables that play no part."""

    def move(self, rate: float) -> None:
        """Go by `rate` along the step's direction; a negative rate goes back."""


def descend(
    embedding: Embedding,
    steps: Steps,
    objective: TasteObjective,
    settings: SteeringSettings,
    on_step: OnStep | None = None,
    cancelled: Cancelled | None = None,
) -> None:
    """Move the variables until x is where the settings want it; the gradient enters at unit x in closed form.

    Args:
        embedding: (C, D) as a function of the variables, not normalised.
        steps: Moves them.
        objective: On the variables' device.
        settings: Steps, and either `turn` or `learning_rate`.
        on_step: Called with (steps done, steps).
        cancelled: Asked before every step.

    Raises:
        CancelledError: `cancelled` said so.
    """
    rate = settings.learning_rate
    x = _unit(embedding)
    start, each = x.detach(), settings.turn / settings.steps
    for step in range(settings.steps):
        if cancelled is not None and cancelled():
            raise CancelledError(f"Cancelled after {step} of {settings.steps} steps of steering.")
        before = x.detach()
        steps.read(torch.autograd.grad(x, steps.variables, objective.gradient(before), allow_unused=True))
        if settings.learning_rate is None:
            rate = steps.first_try(rate)
        assert rate is not None
        steps.move(rate)
        x = _unit(embedding)
        if settings.learning_rate is None:
            # What the steps before went too far or not far enough, this one makes good.
            left = each * (step + 1) - angle(start, before)
            rate, x = _turned(embedding, steps, before, x, rate, max(left, each / 5), each / 5)
        if on_step is not None:
            on_step(step + 1, settings.steps)


def _unit(embedding: Embedding) -> Tensor:
    with torch.enable_grad():
        return F.normalize(embedding(), dim=-1)


def _turned(
    embedding: Embedding, steps: Steps, before: Tensor, x: Tensor, rate: float, degrees: float, tolerance: float
) -> tuple[float, Tensor]:
    """Make the step just taken longer or shorter until x has turned by `degrees`; the rate that did it, and x."""
    for _ in range(4):
        found = angle(before, x.detach())
        if found == 0.0 or abs(found - degrees) < tolerance:
            break
        wanted = rate * min(max(degrees / found, 0.1), 10.0)
        steps.move(wanted - rate)
        rate, x = wanted, _unit(embedding)
    return rate, x


class Adam:
    """Adam (Kingma and Ba 2014, arXiv:1412.6980, algorithm 1).

    Args:
        variables: To be moved, in place.
        rate: Of the very first try.
    """

    def __init__(self, variables: list[Tensor], rate: float) -> None:
        self.variables, self._rate = variables, rate
        self._first = [torch.zeros_like(variable) for variable in variables]
        self._second = [torch.zeros_like(variable) for variable in variables]
        self._steps = 0

    def first_try(self, last: float | None) -> float:
        return last or self._rate

    def read(self, gradients: Sequence[Tensor | None]) -> None:
        self._steps += 1
        for first, second, gradient in zip(self._first, self._second, gradients, strict=True):
            if gradient is not None:
                first.lerp_(gradient, 0.1)
                second.lerp_(gradient.square(), 0.001)

    def move(self, rate: float) -> None:
        for variable, first, second in zip(self.variables, self._first, self._second, strict=True):
            spread = (second / (1 - 0.999**self._steps)).sqrt_().add_(1e-8)
            variable.addcdiv_(first, spread, value=-rate / (1 - 0.9**self._steps))


class Descent:
    """Plain gradient steps on one variable.

    Args:
        variable: To be moved, in place.
        length: How far the very first try goes.
    """

    def __init__(self, variable: Tensor, length: float) -> None:
        self.variables = [variable]
        self._length = length
        self._gradient = torch.zeros_like(variable)
        self._norms = 0.0, 0.0  # of the gradients of the last step and of this one

    def first_try(self, last: float | None) -> float:
        before, now = self._norms
        length = (last or 0.0) * before or self._length  # as far as the step before
        return length / now if now > 0 else 0.0

    def read(self, gradients: Sequence[Tensor | None]) -> None:
        (gradient,) = gradients
        self._gradient = torch.zeros_like(self._gradient) if gradient is None else gradient
        self._norms = self._norms[1], float(self._gradient.norm())

    def move(self, rate: float) -> None:
        self.variables[0].sub_(self._gradient, alpha=rate)


class Sphere:
    """Gradient steps along great circles: unit rows stay unit rows.

    A step of rate r turns a row u with gradient g by r · ‖g‖ radians, g being tangent: u cos a − (g / ‖g‖) sin a.

    Args:
        variable: (C, D) unit rows, to be moved, in place.
        degrees: How far the very first try turns.
    """

    def __init__(self, variable: Tensor, degrees: float) -> None:
        self.variables = [variable]
        self._degrees = degrees
        self._start = variable.detach().clone()
        self._gradient = torch.zeros_like(self._start)
        self._rate = 0.0

    def first_try(self, last: float | None) -> float:
        mean = float(self._gradient.norm(dim=-1).mean())
        return math.radians(self._degrees) / mean if mean > 0 else 0.0

    def read(self, gradients: Sequence[Tensor | None]) -> None:
        (gradient,) = gradients
        self._start, self._rate = self.variables[0].detach().clone(), 0.0
        gradient = torch.zeros_like(self._start) if gradient is None else gradient
        self._gradient = gradient - (gradient * self._start).sum(dim=-1, keepdim=True) * self._start

    def move(self, rate: float) -> None:
        self._rate += rate
        size = self._gradient.norm(dim=-1, keepdim=True)
        turned = (self._rate * size).clamp(max=math.pi)  # further would come back on the other side
        away = self._gradient / size.clamp(min=1e-30)
        self.variables[0].copy_(F.normalize(turned.cos() * self._start - turned.sin() * away, dim=-1))
