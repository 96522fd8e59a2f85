"""A text embedding moved along preferences by the closed form, without a model.

Shapes: N pairs, D joint width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import NotEnoughAnswersError, ShapeError, SteeringError

__all__ = ["OBJECTIVES", "adapt_text_embedding", "preference_gradient", "preference_loss"]

OBJECTIVES = ("bradley_terry", "positive")


def preference_loss(x: Tensor, chosen: Tensor, rejected: Tensor, logit_scale: float = 1.0) -> Tensor:
    """L = mean over pairs of −log σ(s · x·(y_chosen − y_rejected)), in nats; x (..., D) gives (...)."""
    return torch.nn.functional.softplus(-logit_scale * x @ (chosen - rejected).T).mean(dim=-1)


def preference_gradient(x: Tensor, chosen: Tensor, rejected: Tensor, logit_scale: float = 1.0) -> Tensor:
    """∇_x of `preference_loss` in closed form: mean of s (p − 1)(y_chosen − y_rejected); x (..., D) gives (..., D).

    p = σ(s · x·(y_chosen − y_rejected)) is the probability of the choice that was made.

    Source: Gallego 2023, arXiv:2308.07929, eq. 4. Differs: mean over pairs and the logit scale s (the paper has one
    pair and s = 1).
    """
    delta = chosen - rejected
    # p − 1 = −σ(−z), which keeps its digits when p is next to 1
    surprise = torch.sigmoid(-logit_scale * x @ delta.T)
    return -logit_scale * surprise @ delta / delta.shape[0]


def adapt_text_embedding(
    text_embedding: Tensor,
    chosen: Tensor,
    rejected: Tensor,
    steps: int = 1,
    step_size: float = 1.0,
    logit_scale: float = 1.0,
    objective: str = "bradley_terry",
) -> Tensor:
    """Move a text embedding x towards what was chosen: x ← x − step_size · ∇_x L, `steps` times.

    "bradley_terry": ∇L = mean over pairs of s (p − 1)(y_chosen − y_rejected), p = σ(s · x·(y_chosen − y_rejected)).
    "positive": L = −x·ȳ with ȳ the mean of the chosen, so ∇L = −ȳ; `rejected` and the logit scale play no part.

    Nothing is normalised inside: give unit vectors, and normalise the result where a cosine is wanted.

    Args:
        text_embedding: x, (D,).
        chosen: (N, D) embeddings of the chosen images, N >= 1.
        rejected: (N, D), row by row against `chosen`.
        steps: >= 0; the paper takes 1 to classify and 5 to 7 to generate. 0 returns the same values.
        step_size: ε; 0 returns the same values.
        logit_scale: s; CLIP's own is 100, the paper's 1.
        objective: "bradley_terry" or "positive".

    Returns:
        (D,) in the dtype of `text_embedding`, on its device.

    Raises:
        ShapeError: shapes don't fit, or there is NaN or infinity.
        NotEnoughAnswersError: no pairs.
        SteeringError: unknown objective or negative steps.

    Source: Gallego 2023, arXiv:2308.07929, section 2. Differs: mean over pairs; logit scale.
    """
    if objective not in OBJECTIVES:
        raise SteeringError(f"Cannot adapt: unknown objective {objective!r}; expected one of {', '.join(OBJECTIVES)}.")
    if steps < 0:
        raise SteeringError(f"Cannot adapt: {steps} steps; expected 0 or more.")
    x = torch.as_tensor(text_embedding)
    dtype = x.dtype if x.is_floating_point() else torch.float32
    working = torch.float64 if dtype == torch.float64 else torch.float32
    x = x.detach().to(working)
    chosen = torch.as_tensor(chosen).detach().to(device=x.device, dtype=working)
    rejected = torch.as_tensor(rejected).detach().to(device=x.device, dtype=working)
    _check(x, chosen, rejected)
    for _ in range(steps):
        if objective == "positive":
            x = x + step_size * chosen.mean(dim=0)
        else:
            x = x - step_size * preference_gradient(x, chosen, rejected, logit_scale)
    return x.to(dtype).clone()


def _check(x: Tensor, chosen: Tensor, rejected: Tensor) -> None:
    if x.ndim != 1:
        raise ShapeError(f"Cannot adapt: the text embedding is {tuple(x.shape)}; expected (D,). Adapt one at a time.")
    if chosen.ndim != 2 or chosen.shape != rejected.shape or chosen.shape[1] != x.shape[0]:
        raise ShapeError(
            f"Cannot adapt: chosen is {tuple(chosen.shape)} and rejected {tuple(rejected.shape)}; expected both "
            f"(N, {x.shape[0]}). Encode all of them with the encoder of the text."
        )
    if chosen.shape[0] == 0:
        raise NotEnoughAnswersError("Cannot adapt: found no pairs; expected at least one. Compare two images first.")
    for name, tensor in (("text embedding", x), ("chosen", chosen), ("rejected", rejected)):
        if not bool(torch.isfinite(tensor).all()):
            raise ShapeError(f"Cannot adapt: found NaN or infinity in {name}; expected numbers. Encode it again.")
