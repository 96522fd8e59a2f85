"""What a taste wants of a text embedding: a number to make smaller, and its gradient."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ShapeError, SteeringError
from .embedding import preference_gradient, preference_loss

__all__ = ["STEERING_OBJECTIVES", "TasteLike", "TasteObjective", "taste_key"]

STEERING_OBJECTIVES = ("bradley_terry", "positive", "direction")


class TasteLike(Protocol):
    """The part of `adapters.taste.Taste` that steering reads."""

    @property
    def weights(self) -> Any:
        """(D,) utility weights."""

    @property
    def encoder(self) -> str:
        """Identity of the encoder it was learned with."""

    @property
    def encoder_name(self) -> str:
        """Its name, for messages."""


@dataclass(frozen=True)
class TasteObjective:
    """Loss of unit text embeddings under a taste, and its gradient in closed form.

    With pairs: mean over pairs of −log σ(s · x·(y_chosen − y_rejected)). Without: −s · x·d along a unit direction d.

    Attributes:
        direction: (D,) unit vector, or None when there are pairs.
        chosen: (N, D) or None.
        rejected: (N, D) or None.
        logit_scale: s.
    """

    direction: Tensor | None
    chosen: Tensor | None
    rejected: Tensor | None
    logit_scale: float = 100.0

    @classmethod
    def of(cls, taste: TasteLike, objective: str = "bradley_terry", logit_scale: float = 100.0) -> TasteObjective:
        """Read a taste.

        Args:
            taste: With its pairs (fresh from a store), or without (from a file or a blend): then it acts along its
                weights, where the Bradley-Terry gradient points at the optimum.
            objective: "bradley_terry"; "positive" pulls towards the mean of the chosen images (aesthetic gradients);
                "direction" takes the weights even where there are pairs.
            logit_scale: s, > 0; CLIP's own is 100.

        Raises:
            SteeringError: unknown objective, "positive" without pairs, or a taste of all zeros.
            ShapeError: NaN in it.
        """
        if objective not in STEERING_OBJECTIVES:
            known = ", ".join(STEERING_OBJECTIVES)
            raise SteeringError(f"Cannot steer: unknown objective {objective!r}; expected one of {known}.")
        if not logit_scale > 0:
            raise SteeringError(f"Cannot steer: logit scale {logit_scale}; expected more than 0. CLIP's own is 100.")
        chosen, rejected = (_pairs(getattr(taste, side, None)) for side in ("chosen", "rejected"))
        if objective == "bradley_terry" and chosen is not None and rejected is not None:
            if chosen.shape != rejected.shape:
                raise ShapeError(f"Cannot steer: {len(chosen)} chosen and {len(rejected)} rejected; expected as many.")
            return cls(None, chosen, rejected, logit_scale)
        if objective == "positive":
            if chosen is None:
                raise SteeringError(
                    "Cannot steer by 'positive': this taste holds no images (it comes from a file or a blend); "
                    "expected its pairs. Use 'bradley_terry'."
                )
            return cls(_unit(chosen.mean(dim=0)), None, None, logit_scale)
        return cls(_unit(_plain(taste.weights)), None, None, logit_scale)

    @property
    def dim(self) -> int:
        """D."""
        return int((self.direction if self.direction is not None else self.chosen).shape[-1])  # type: ignore[union-attr]

    def to(self, device: torch.device | str) -> TasteObjective:
        """The same on another device."""
        direction, chosen, rejected = (
            None if t is None else t.to(device) for t in (self.direction, self.chosen, self.rejected)
        )
        return TasteObjective(direction, chosen, rejected, self.logit_scale)

    def loss(self, x: Tensor) -> Tensor:
        """Mean over the rows of x (C, D), unit norm; a scalar, smaller is more to the taste."""
        if self.chosen is None or self.rejected is None:
            return -self.logit_scale * (x @ self._direction).mean()
        return preference_loss(x, self.chosen, self.rejected, self.logit_scale).mean()

    def gradient(self, x: Tensor) -> Tensor:
        """∇ of `loss` at x (C, D), in closed form; (C, D)."""
        if self.chosen is None or self.rejected is None:
            return (-self.logit_scale * self._direction).expand_as(x) / x.shape[0]
        return preference_gradient(x, self.chosen, self.rejected, self.logit_scale) / x.shape[0]

    @property
    def _direction(self) -> Tensor:
        if self.direction is None:
            raise SteeringError("Cannot steer: neither pairs nor a direction. Build it with TasteObjective.of.")
        return self.direction


def taste_key(taste: TasteLike) -> str:
    """Hash of everything in a taste that steering depends on; for caches."""
    digest = hashlib.sha256(taste.encoder.encode())
    for name in ("weights", "text_weights", "chosen", "rejected"):
        value = getattr(taste, name, None)
        digest.update(name.encode())
        if value is not None:
            tensor = torch.as_tensor(value).detach().to("cpu", torch.float32).contiguous()
            digest.update(str(tuple(tensor.shape)).encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def _plain(value: Any) -> Tensor:
    # clone: tensors made under inference mode must not meet autograd
    tensor = torch.as_tensor(value).detach().to(torch.float32).clone()
    if not bool(torch.isfinite(tensor).all()):
        raise ShapeError("Cannot steer: found NaN or infinity in the taste; expected numbers. Fit it again.")
    return tensor


def _pairs(value: Any) -> Tensor | None:
    return None if value is None or len(value) == 0 else _plain(value)


def _unit(vector: Tensor) -> Tensor:
    if float(vector.norm()) == 0.0:
        raise SteeringError("Cannot steer: the taste is all zeros; expected a direction. Answer some more comparisons.")
    return F.normalize(vector, dim=-1)
